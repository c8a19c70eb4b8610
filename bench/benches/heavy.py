"""Throughput of a 100 MB CNN: two connections, binary tensors, beside two threads in one plain program.

The rival runs the same published file with intra=1, both threads on one session, and neither parses nor copies
anything. Both sides do the same number of inferences and count the time from the first to the last.
"""

from __future__ import annotations

from harness.context import Context
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least
from harness.workload import CNN, Workload

MODELS = (CNN,)

CALLERS = 2
SAMPLES = 40  # of each caller, a window


def run(context: Context, report: Report) -> None:
    load, name = context.workload(CNN), context.hot_function(CNN)
    _mayfly(context, load, name)  # both instances exist from here on
    series = measure_pairs(
        context.account,
        {
            "mayfly": lambda: _mayfly(context, load, name),
            "ort": lambda: _threads(context, load),
        },
        until=context.repeat_until,
    )
    report.paired(
        CNN,
        f"{CALLERS} connections",
        series,
        value=series.value("mayfly", "rate"),
        unit="1/s",
        rival=f"bare_ort, {CALLERS} threads",
        rival_value=series.value("ort", "rate"),
        ratio=lambda f: f["mayfly"]["rate"] / f["ort"]["rate"],
        target=at_least(0.95),
    )


def _mayfly(context: Context, load: Workload, name: str) -> Figures:
    return _rate(context.http(load, name, SAMPLES, "--connections", CALLERS))


def _threads(context: Context, load: Workload) -> Figures:
    return _rate(
        context.tool(
            "bare_ort",
            "callers",
            *("--library", context.onnxruntime),
            *context.published(CNN).ort_arguments(),
            *("--callers", CALLERS, "--count", SAMPLES),
            *load.ort_arguments(),
        )
    )


def _rate(result: dict) -> Figures:
    # bare_ort times the runs only; the wall time of http_latency includes connecting, microseconds.
    return {"rate": len(result["us"]) / result["wall_s"]}
