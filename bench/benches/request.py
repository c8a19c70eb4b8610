"""Predictions a second when every one of them gets a fresh process (`isolation = "request"`).

The rival clones a warmed template for each request and has neither jail nor HTTP. Both sides are measured with one
request at a time, and with one a core at the same time; the target is the latter's.
"""

from __future__ import annotations

import shutil

from harness.context import Context
from harness.machine import CPUS
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least
from harness.workload import MODELS as MODEL_FOLDER
from harness.workload import Workload

MODELS = ("logistic",)

SAMPLES = 1000  # of each caller, a window
NAME = "logistic-request"


def run(context: Context, report: Report) -> None:
    load = context.workload("logistic")
    context.hot_function("logistic")  # its compiled form is the rival's
    _deploy(context)
    for callers, target in ((CPUS, at_least(0.35)), (1, None)):
        series = measure_pairs(
            context.account,
            {
                "mayfly": lambda n=callers: _mayfly(context, load, n),
                "fork": lambda n=callers: _rate(context.bare_fork(load, SAMPLES, n)),
            },
            until=context.repeat_until,
        )
        report.paired(
            "logistic",
            f"starts, {callers} at a time",
            series,
            value=series.value("mayfly", "rate"),
            unit="1/s",
            rival=f"bare_fork, {callers} at a time",
            rival_value=series.value("fork", "rate"),
            ratio=lambda f: f["mayfly"]["rate"] / f["fork"]["rate"],
            target=target,
        )


def _deploy(context: Context) -> None:
    folder = context.scratch / NAME
    shutil.copytree(MODEL_FOLDER / "logistic", folder, dirs_exist_ok=True)
    (folder / "mayfly.toml").write_text('isolation = "request"\n')
    context.node.publish(NAME, "logistic", folder, template_timeout="1h", keep_warm="true")
    context.http(context.workload("logistic"), NAME, 3)


def _mayfly(context: Context, load: Workload, callers: int) -> Figures:
    more = ("--connections", callers, "--expect-start", "template")
    return _rate(context.http(load, NAME, SAMPLES, *more))


def _rate(result: dict) -> Figures:
    return {"rate": len(result["us"]) / result["wall_s"]}
