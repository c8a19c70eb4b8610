"""The ledger's CPU time beside the kernel's own account.

The function's processes are put into a cpuacct group made for this, which starts at zero and which instances inherit:
what it counts over the calls is what they used, and the ledger may bill at most that. A model cannot read a clock, so
busy loops are models of known length, and the group is their clock too. Of the figures, the ledger's are read from its
records, one a call.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.context import Context, CouldNotRun
from harness.machine import cpuacct_folder
from harness.records import Report, at_least, at_most
from harness.workload import Workload, write_workload

MODELS = ("logistic", "mlp1m", "slow")

CALLS = 10_000
FRAME = struct.Struct("<II")
CPU_OFFSET = 32 + 3 * 8  # of a record's payload: see src/meter/record.h
TEXTS_OFFSET = 96
FUNCTION_TEXT = 3  # of the texts after them
MAGIC = len("mayflyL1")


def run(context: Context, report: Report) -> None:
    with _group() as group:
        load = context.workload("logistic")
        _compare(context, report, group, load, "10,000 calls", CALLS)
        for label, calls, busy in _busy_loops(context):
            _compare(context, report, group, busy, label, calls)


def _busy_loops(context: Context) -> list[tuple[str, int, Workload]]:
    """Rows of the 1 MB MLP for the short ones, turns of a matrix product for the long."""
    rows = {"0.1 ms": (12, 3000), "1 ms": (170, 1000)}
    turns = {"10 ms": (4, 200), "100 ms": (42, 30)}
    loops = [(f"busy, about {k}", n, context.workload("mlp1m", r)) for k, (r, n) in rows.items()]
    for label, (count, calls) in turns.items():
        tensor = {"name": "count", "datatype": "INT64", "shape": [1], "data": [count]}
        load = write_workload("slow", [tensor], context.scratch, f"slow-{count}")
        loops.append((f"busy, about {label}", calls, load))
    return loops


def _compare(
    context: Context, report: Report, group: Path, load: Workload, metric: str, calls: int
) -> None:
    node, name = context.node, context.hot_function(load.model)
    context.http(load, name, 3)
    _move(context, name, group)
    usage = group / "cpuacct.usage"
    _settle(usage)
    billed_before, counted_before = _billed_us(node.data / "ledger", name), _read(usage)
    context.http(load, name, calls, "--expect-start", "hot")
    _settle(usage)
    counted = (_read(usage) - counted_before) / 1e3
    # Records hold whole microseconds and carry the rest over: up to one was used before the count.
    billed = _billed_us(node.data / "ledger", name) - billed_before - 1
    for target, sense in ((at_least(0.99), "within 1 %"), (at_most(1.0), "never above")):
        report.single(
            load.model,
            f"{metric}: {sense}",
            value=billed / calls,
            unit="us/call",
            rival="cpuacct",
            rival_value=counted / calls,
            target=target,
        )
    node.evict(name)


@contextmanager
def _group():
    here = cpuacct_folder()
    if here is None:
        raise CouldNotRun("there is no cpuacct hierarchy to count beside the ledger")
    group = here / f"meter-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as problem:
        raise CouldNotRun(f"{group} cannot be made: {problem}") from problem
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):  # it ended meanwhile
                (here / "cgroup.procs").write_text(pid)
        group.rmdir()


def _move(context: Context, name: str, group: Path) -> None:
    """Every jailed process of the node: others than this function's are idle."""
    node = context.node
    if node.running(name)[0] < 1:
        raise CouldNotRun(f"{name} has no instance")
    for pid, _ in node.processes():
        with suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid))


def _settle(usage: Path) -> None:
    """Until nothing is counted any more."""
    last, now = -1, _read(usage)
    while now != last:
        time.sleep(0.05)
        last, now = now, _read(usage)


def _read(usage: Path) -> int:
    return int(usage.read_text())


def _billed_us(ledger: Path, function: str) -> int:
    """The sum of a function's CPU microseconds over the records of every segment."""
    return sum(cpu for name, cpu in _records(ledger) if name == function)


def _records(ledger: Path) -> Iterator[tuple[str, int]]:
    """(function, CPU microseconds) of each record."""
    for segment in sorted(ledger.glob("*.log")):
        content = segment.read_bytes()
        at = MAGIC
        while at + FRAME.size <= len(content):
            length, _ = FRAME.unpack_from(content, at)
            payload = content[at + FRAME.size : at + FRAME.size + length]
            if length == 0 or len(payload) < length:
                break
            (cpu,) = struct.unpack_from("<Q", payload, CPU_OFFSET)
            yield _texts(payload)[FUNCTION_TEXT], cpu
            at += FRAME.size + length


def _texts(payload: bytes) -> list[str]:
    """Project, caller, request id, function, reason."""
    texts, at = [], TEXTS_OFFSET
    while at < len(payload):
        end = at + 1 + payload[at]
        texts.append(payload[at + 1 : end].decode())
        at = end
    return texts
