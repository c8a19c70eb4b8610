"""The first reply when no process of the model exists; its artifact is in the page cache.

Each request follows an eviction that is complete: no template, no instance. The rival starts a plain C++ program that
loads the original model as its author would.
"""

from __future__ import annotations

from harness.context import Context
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_most
from harness.statistics import p50
from harness.workload import LARGE, Workload

TARGETS = {"logistic": 0.20, "mlp1m": 0.20, "gbdt": 0.45}
MODELS = tuple(TARGETS)

SAMPLES = 145  # a window: 1,015 in seven
LARGE_SAMPLES = 5
# The rival's next process begins when its last has been reaped; so does Mayfly's.
SETTLE_US, LARGE_SETTLE_US = 5_000, 50_000


def run(context: Context, report: Report) -> None:
    for model, limit in TARGETS.items():
        measure(context, report, model, limit)


def measure(context: Context, report: Report, model: str, limit: float) -> None:
    load, name = context.workload(model), f"{model}-cold"
    context.function(name, model, idle_timeout="1h", template_timeout="1h")
    count = LARGE_SAMPLES if model in LARGE else SAMPLES
    series = measure_pairs(
        context.account,
        {
            "cold": lambda: _cold(context, load, name, count),
            "ort": lambda: {"p50": p50(context.bare_ort_first(load, count))},
        },
        until=context.repeat_until,
    )
    context.node.evict(name)
    report.paired(
        model,
        "p50 cold",
        series,
        value=series.value("cold", "p50"),
        unit="us",
        rival="bare_ort exec to result",
        rival_value=series.value("ort", "p50"),
        ratio=lambda f: f["cold"]["p50"] / f["ort"]["p50"],
        target=at_most(limit),
    )


def _cold(context: Context, load: Workload, name: str, count: int) -> Figures:
    evict = f"/api/v1/functions/{name}/evict"
    settle = LARGE_SETTLE_US if load.large else SETTLE_US
    more = ("--before", evict, "--settle-us", settle, "--expect-start", "cold")
    return {"p50": p50(context.http(load, name, count, *more)["us"])}
