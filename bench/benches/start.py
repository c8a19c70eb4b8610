"""The first reply of a fresh jailed process, forked from its template, over HTTP.

Each request to the starting function forks an instance, which ends with its reply (`idle_timeout = 0s`); no instance is
forked ahead of demand. The hot function of the same model says what the same request costs without a start.
"""

from __future__ import annotations

from harness import machine
from harness.context import Context
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_most
from harness.statistics import p50, p99
from harness.workload import CNN, HUGE, LARGE, TINY, Workload

MODELS = (*TINY, "ocrcls", *LARGE)

SAMPLES = 500  # a window
EXECS = 150  # of bare_ort a window
LARGE_SAMPLES = 5  # a window
TIGHTENING_US = 100.0
PAUSE_US = 100_000
PAUSED_SAMPLES = 20  # a window


def run(context: Context, report: Report) -> None:
    for model in TINY:
        _tiny(context, report, model)
    _beside_hot(context, report, "ocrcls", 150, None)
    _beside_hot(context, report, CNN, LARGE_SAMPLES, 0.30)
    _beside_hot(context, report, HUGE, LARGE_SAMPLES, 0.20)
    _after_pause(context, report)
    _forked_ahead(context, report)
    _tightening(context, report)


def _tiny(context: Context, report: Report, model: str) -> None:
    load, hot, starting = _functions(context, model)
    series = measure_pairs(
        context.account,
        {
            "first": lambda: _first(context, load, starting, SAMPLES),
            "hot": lambda: _hot(context, load, hot, SAMPLES),
            "fork": lambda: _percentiles(context.bare_fork(load, SAMPLES)["us"]),
            "ort": lambda: _percentiles(context.bare_ort_first(load, EXECS)),
        },
        until=context.repeat_until,
    )
    for figure, limit in (("p50", 2.0), ("p99", 3.0)):
        report.paired(
            model,
            f"{figure} first - p50 hot",
            series,
            value=series.value("first", figure) - series.value("hot", "p50"),
            unit="us",
            rival=f"bare_fork {figure}",
            rival_value=series.value("fork", figure),
            ratio=lambda f, q=figure: (f["first"][q] - f["hot"]["p50"]) / f["fork"][q],
            target=at_most(limit),
        )
    report.paired(
        model,
        "p50 first",
        series,
        value=series.value("first", "p50"),
        unit="us",
        rival="bare_ort exec to result",
        rival_value=series.value("ort", "p50"),
        ratio=lambda f: f["first"]["p50"] / f["ort"]["p50"],
        target=at_most(1 / 20),
    )
    report.single(model, "p50 hot", value=series.value("hot", "p50"), unit="us")


def _beside_hot(
    context: Context, report: Report, model: str, samples: int, limit: float | None
) -> None:
    load, hot, starting = _functions(context, model)
    series = measure_pairs(
        context.account,
        {
            "first": lambda: _first(context, load, starting, samples),
            "hot": lambda: _hot(context, load, hot, samples),
        },
        until=context.repeat_until,
    )
    report.paired(
        model,
        "p50 first - p50 hot",
        series,
        value=series.value("first", "p50") - series.value("hot", "p50"),
        unit="us",
        rival="hot p50",
        rival_value=series.value("hot", "p50"),
        ratio=lambda f: f["first"]["p50"] / f["hot"]["p50"] - 1,
        target=None if limit is None else at_most(limit),
    )


def _after_pause(context: Context, report: Report) -> None:
    """What costs only when nobody asked for a while: locks and caches that have gone cold."""
    load, hot, starting = _functions(context, "logistic")
    pause = ("--pause-us", PAUSE_US)
    series = measure_pairs(
        context.account,
        {
            "first": lambda: _first(context, load, starting, PAUSED_SAMPLES),
            "hot": lambda: _hot(context, load, hot, PAUSED_SAMPLES),
            "paused first": lambda: _first(context, load, starting, PAUSED_SAMPLES, *pause),
            "paused hot": lambda: _hot(context, load, hot, PAUSED_SAMPLES, *pause),
        },
        until=context.repeat_until,
    )
    report.paired(
        "logistic",
        "p50 first - p50 hot, after pauses",
        series,
        value=series.value("paused first", "p50") - series.value("paused hot", "p50"),
        unit="us",
        rival="back to back",
        rival_value=series.value("first", "p50") - series.value("hot", "p50"),
        ratio=lambda f: (f["paused first"]["p50"] - f["paused hot"]["p50"])
        / (f["first"]["p50"] - f["hot"]["p50"]),
        target=at_most(2.0),
    )


def _forked_ahead(context: Context, report: Report) -> None:
    """Reported apart: an instance that was forked before anyone asked, and its first request."""
    node, load, name = context.node, context.workload("logistic"), "logistic-ahead"
    context.function(name, "logistic", min_instances=1, idle_timeout="1h", keep_warm="true")
    samples = []
    for _ in range(30):
        node.api("POST", f"/api/v1/functions/{name}/evict")
        node.wait_until(lambda: node.running(name)[0] >= 1, "an instance is forked ahead")
        samples += context.http(load, name, 1)["us"]
    report.single("logistic", "p50 first, forked ahead", value=p50(samples), unit="us")


def _tightening(context: Context, report: Report) -> None:
    """What is done for each instance, within the first reply: groups, descriptors, the smaller filter."""
    with machine.memory_group() as group:
        taken = context.tool("tighten", "--count", SAMPLES, *(("--group", group) if group else ()))
    report.single(
        "any",
        "p50 tightening",
        value=p50(taken["us"]),
        unit="us",
        rival="allowance",
        rival_value=TIGHTENING_US,
        target=at_most(1.0),
    )


def _functions(context: Context, model: str) -> tuple[Workload, str, str]:
    load, hot = context.workload(model), context.hot_function(model)
    starting = context.starting_function(model)
    context.http(load, hot, 3)
    context.http(load, starting, 3)
    return load, hot, starting


def _first(context: Context, load: Workload, name: str, samples: int, *more) -> Figures:
    return _percentiles(context.http(load, name, samples, "--expect-start", "template", *more)["us"])


def _hot(context: Context, load: Workload, name: str, samples: int, *more) -> Figures:
    return _percentiles(context.http(load, name, samples, "--expect-start", "hot", *more)["us"])


def _percentiles(samples: list[float]) -> Figures:
    return {"p50": p50(samples), "p99": p99(samples)}
