"""1,000 cycles of deploy, invoke and delete, every tenth with new bytes: nothing may pile up.

What the server holds after cycle 1,000 is compared with what it held after cycle 100: resident memory, descriptors,
processes, mounts, control groups, temporary files.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import onnx

from harness.context import BenchNode, Context, CouldNotRun
from harness.records import Report, at_most
from harness.workload import MODELS as MODEL_FOLDER

MODELS = ("logistic",)

CYCLES = 1000
WARM_CYCLES = 100
FRESH_EVERY = 10
NAME = "cycle"


def run(context: Context, report: Report) -> None:
    node = context.fresh_node()
    try:
        _cycles(context, node, report)
    finally:
        context.close_node(node)


def _cycles(context: Context, node: BenchNode, report: Report) -> None:
    folder = context.scratch / "cycle-model"
    shutil.copytree(MODEL_FOLDER / "logistic", folder, dirs_exist_ok=True)
    early: dict[str, float] = {}
    for cycle in range(1, CYCLES + 1):
        if cycle % FRESH_EVERY == 0:
            _change_bytes(folder / "model.onnx", cycle)
        group = _one_cycle(node, folder)
        if cycle == WARM_CYCLES:
            early = _holdings(node, group)
    late = _holdings(node, group)
    for metric, before in early.items():
        report.single(
            "logistic",
            f"{metric}, cycle {CYCLES}",
            value=late[metric],
            unit="KiB" if metric == "RSS" else "",
            rival=f"cycle {WARM_CYCLES}",
            rival_value=before,
            target=at_most(1.05 if metric == "RSS" else 1.0),
        )


def _one_cycle(node: BenchNode, folder: Path) -> str:
    """Returns the name of the node's control groups, which its jailed processes tell."""
    node.deploy(NAME, folder)
    reply = node.example(NAME, "logistic")
    if reply.status != 200:
        raise CouldNotRun(f"invoke: {reply.status} {reply.body[:300]!r}")
    group = _group_name(node)
    node.cli("delete", NAME, "--yes")
    return group


def _group_name(node: BenchNode) -> str:
    for pid, _ in node.processes():
        if found := re.search(r"mayfly-[^/\n]+", _text(Path(f"/proc/{pid}/cgroup"))):
            return found[0]
    return "no group"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _change_bytes(model: Path, cycle: int) -> None:
    """Other bytes, the same answers."""
    graph = onnx.load(model)
    graph.doc_string = f"cycle {cycle}"
    model.write_bytes(graph.SerializeToString(deterministic=True))


def _holdings(node: BenchNode, group: str) -> dict[str, float]:
    """Once the last cycle's processes have ended."""
    resting = 2  # the server and its blank
    node.wait_until(lambda: len(node.processes()) + 1 <= resting, "the deleted function's end")
    pid = node.process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return {
        "RSS": float(rss),
        "descriptors": float(len(os.listdir(f"/proc/{pid}/fd"))),
        "processes": float(len(node.processes()) + 1),
        "mounts": float(len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())),
        "control groups": float(sum(group in path for path, _, _ in os.walk("/sys/fs/cgroup"))),
        "temporary files": float(sum(len(files) for _, _, files in os.walk(node.data / "tmp"))),
    }
