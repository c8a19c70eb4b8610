"""Shadows: callers of a version that another one shadows with a copy of every request, beside callers of one without.

A shadow is a guest: it gets what callers leave, and its copies are dropped where they would wait. What remains is the
work of copying requests and comparing answers, and two processes that share a machine.
"""

from __future__ import annotations

from harness import wrk
from harness.context import Context
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least, at_most
from harness.statistics import p50, p99
from harness.workload import MODELS as FOLDERS
from harness.workload import Workload

MODELS = ("logistic", "gbdt")

CLIENTS = 64
SECONDS = 2
SAMPLES = 1000  # at one client, a window
SIDES = ("shadowed", "alone")


def run(context: Context, report: Report) -> None:
    for model in MODELS:
        load = context.workload(model)
        for side in SIDES:
            _deploy(context, model, side)
        script = wrk.script(context.scratch, load.json_body)
        single = measure_pairs(
            context.account,
            {side: lambda s=side: _latency(context, model, s, load) for side in SIDES},
            until=context.repeat_until,
        )
        for figure, target in (("p50", at_most(1.1)), ("p99", None)):
            report.paired(
                model,
                f"1 client, {figure}",
                single,
                value=single.value("shadowed", figure),
                unit="us",
                rival="no shadow",
                rival_value=single.value("alone", figure),
                ratio=lambda f, of=figure: f["shadowed"][of] / f["alone"][of],
                target=target,
            )
        many = measure_pairs(
            context.account,
            {side: lambda s=side: _rate(context, model, s, script) for side in SIDES},
            until=context.repeat_until,
        )
        report.paired(
            model,
            f"{CLIENTS} clients",
            many,
            value=many.value("shadowed", "rate"),
            unit="1/s",
            rival="no shadow",
            rival_value=many.value("alone", "rate"),
            ratio=lambda f: f["shadowed"]["rate"] / f["alone"]["rate"],
            target=at_least(0.9),
        )


def _name(model: str, side: str) -> str:
    return f"{model}-{side}"


def _deploy(context: Context, model: str, side: str) -> None:
    node, name, folder = context.node, _name(model, side), str(FOLDERS / model)
    node.cli("deploy", name, folder)
    if side == "shadowed":
        node.cli("deploy", name, folder, "--no-traffic")
        node.cli("traffic", name, "1=100", "--shadow", "2=100%")
    node.configure(name, idle_timeout="1h", template_timeout="1h", keep_warm="true")


def _path(model: str, side: str) -> str:
    return f"/v2/models/{_name(model, side)}/infer"


def _rate(context: Context, model: str, side: str, script) -> Figures:
    url = f"http://127.0.0.1:{context.node.port}{_path(model, side)}"
    return {"rate": wrk.requests_per_second(url, script, CLIENTS, SECONDS)}


def _latency(context: Context, model: str, side: str, load: Workload) -> Figures:
    taken = context.tool(
        "http_latency",
        *("--port", context.node.port, "--path", _path(model, side)),
        *("--count", SAMPLES, *load.request_arguments()),
    )
    return {"p50": p50(taken["us"]), "p99": p99(taken["us"])}
