"""What 10,000 functions cost while nobody asks, and what 1,000 live instances cost.

Functions: all of one artifact; the server's resident memory is taken before they exist, when they exist, and when each
has been called once and is at zero again. Instances: of one version, private bytes from smaps_rollup; kernel memory is
what /proc/meminfo's slab, stacks and page tables grow by.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness import machine
from harness.context import BenchNode, Context, CouldNotRun
from harness.records import Report, at_most
from harness.statistics import median
from harness.workload import MODELS as MODEL_FOLDER

MODELS = ("logistic",)

FUNCTIONS = 10_000
INSTANCES = 1_000
CALLS = 100
KIB = 1024


def run(context: Context, report: Report) -> None:
    node = context.fresh_node()
    try:
        _functions(context, node, report)
        _instances(context, node, report)
    finally:
        context.close_node(node)


def _functions(context: Context, node: BenchNode, report: Report) -> None:
    body = context.workload("logistic").json_body.read_bytes()
    node.publish("first", "logistic")
    node.example("first", "logistic")
    node.evict("first")
    version = {"files": _artifact(), "options": {}}
    before = _server_rss(node)
    names = [f"f{i:05}" for i in range(FUNCTIONS)]
    for name in names:
        node.deploy_known(name, version)
    deployed = _server_rss(node)
    for name in names:
        _call(node, name, body)
        node.api("POST", f"/api/v1/functions/{name}/evict")
    node.wait_until(lambda: len(_instances_of(node)) == 0, "every function is at zero")
    called = _server_rss(node)
    for metric, rss, limit in (
        ("server RSS, a function", deployed, 2.0),
        ("the same, called once", called, 8.0),
    ):
        report.single(
            "logistic",
            metric,
            value=(rss - before) / FUNCTIONS / KIB,
            unit="KiB",
            rival="allowance",
            rival_value=limit,
            target=at_most(1.0),
        )


def _instances(context: Context, node: BenchNode, report: Report) -> None:
    node.publish("many", "logistic", keep_warm="true", idle_timeout="1h")
    load = context.workload("logistic")
    context.http(load, "many", CALLS, node=node)
    (served,) = _instances_of(node)
    served_private = machine.private_bytes(served)
    others, kernel_before = set(_children(node)), _kernel_bytes()
    node.configure("many", min_instances=INSTANCES, max_instances=INSTANCES)
    node.wait_until(lambda: len(_instances_of(node)) >= INSTANCES, "1,000 instances live")
    fresh = [machine.private_bytes(pid) for pid in _instances_of(node) if pid not in others]
    for metric, value in (
        ("private, mean of 1,000", sum(fresh) / len(fresh)),
        (f"private, after {CALLS} calls", served_private),
    ):
        report.single(
            "logistic",
            metric,
            value=value / KIB,
            unit="KiB",
            rival="allowance",
            rival_value=512.0,
            target=at_most(1.0),
        )
    kernel = (_kernel_bytes() - kernel_before) / len(fresh) / KIB
    report.single("logistic", "kernel memory, an instance", value=kernel, unit="KiB")
    report.single("logistic", "private, median", value=median(fresh) / KIB, unit="KiB")
    node.configure("many", min_instances=0, max_instances=0)
    node.evict("many")


def _artifact() -> list[dict]:
    """The files of the artifact as a deploy names them; their bytes are with the node already."""
    return [
        {
            "path": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "size": file.stat().st_size,
        }
        for file in sorted((MODEL_FOLDER / "logistic").iterdir())
    ]


def _call(node: BenchNode, name: str, body: bytes) -> None:
    connection = node._connection
    connection.request("POST", f"/v2/models/{name}/infer", body)
    reply = connection.getresponse()
    content = reply.read()
    if reply.status != 200:
        raise CouldNotRun(f"{name}: {reply.status} {content[:300]!r}")


def _children(node: BenchNode) -> list[int]:
    return sorted(pid for pid, _ in node.processes())


def _instances_of(node: BenchNode) -> list[int]:
    """Below the blank's siblings: jail init has two kinds of children, the template (its first) and instances."""
    parents: dict[int, list[int]] = {}
    for pid in _children(node):
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(pid)
    inits = set(parents.get(node.process.pid, []))
    return [pid for init in inits for pid in sorted(parents.get(init, []))[1:]]


def _server_rss(node: BenchNode) -> int:
    for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    raise CouldNotRun("the server is gone")


def _kernel_bytes() -> int:
    wanted = ("Slab", "KernelStack", "PageTables")
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(parts[1]) * KIB for parts in lines if parts[0].rstrip(":") in wanted)
