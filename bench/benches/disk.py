"""The first reply when the artifact's bytes are on disk only and the blank is ready.

The artifact's own files are put out of the page cache and mincore says that they are. The rival is what physics asks:
reading the same bytes in order from the same disk, evicted the same way, plus one steady run.
"""

from __future__ import annotations

from pathlib import Path

from harness.context import Context, CouldNotRun
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_most
from harness.statistics import p50
from harness.workload import CNN, HUGE, Workload

MODELS = (CNN, HUGE)

PAIRS = 9
STEADY_RUNS = 5


def run(context: Context, report: Report) -> None:
    _require_disk(context.scratch)
    for model in MODELS:
        _measure(context, report, model)


def _measure(context: Context, report: Report, model: str) -> None:
    load, name = context.workload(model), f"{model}-cold"
    context.function(name, model, idle_timeout="1h", template_timeout="1h")
    files = [part for file in context.published(model).files for part in ("--file", file)]
    series = measure_pairs(
        context.account,
        {
            "disk": lambda: _from_disk(context, load, name, files),
            "read": lambda: _read(context, name, files),
        },
        until=context.repeat_until,
        pairs=PAIRS,
    )
    report.paired(
        model,
        "first from disk",
        series,
        value=series.value("disk", "first"),
        unit="us",
        rival="mmap read + steady run",
        rival_value=series.value("read", "us") + series.value("disk", "steady"),
        ratio=lambda f: f["disk"]["first"] / (f["read"]["us"] + f["disk"]["steady"]),
        target=at_most(1.25),
    )


def _from_disk(context: Context, load: Workload, name: str, files: list) -> Figures:
    _drop(context, name, files)
    (first,) = context.http(load, name, 1, "--expect-start", "cold")["us"]
    steady = context.http(load, name, STEADY_RUNS, "--expect-start", "hot")["us"]
    return {"first": first, "steady": p50(steady)}


def _read(context: Context, name: str, files: list) -> Figures:
    _drop(context, name, files)
    (taken,) = context.tool("page_cache", "read", *files)["us"]
    return {"us": taken}


def _drop(context: Context, name: str, files: list) -> None:
    """Pages that a process maps cannot be dropped, and a process takes a moment to end."""
    context.node.evict(name)
    context.node.wait_until(
        lambda: context.tool("page_cache", "evict", *files)["resident_pages"] == 0,
        "the artifact has left the page cache",
    )


def _require_disk(folder: Path) -> None:
    mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [m for m in mounts if folder.is_relative_to(m[1])]
    kind = max(holding, key=lambda mount: len(mount[1]))[2]
    if kind in ("tmpfs", "ramfs"):
        raise CouldNotRun(f"{folder} lies in a {kind}: there is no disk to read from")
