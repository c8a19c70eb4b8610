"""One row to a hot logistic regression over v2 JSON, beside nginx and a FastAPI server.

All three get the same request from the same client over keep-alive connections. nginx answers without looking at it,
with a constant of the same size as Mayfly's reply: what HTTP alone costs here.
"""

from __future__ import annotations

from harness import rivals, wrk
from harness.context import Context
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least, at_most
from harness.statistics import p50
from harness.workload import Workload

MODELS = ("logistic",)

CONNECTIONS = 64
SECONDS = 3
SAMPLES = 2000  # at one connection, a window


def run(context: Context, report: Report) -> None:
    load, name = context.workload("logistic"), context.hot_function("logistic")
    path = f"/v2/models/{name}/infer"
    mayfly = f"http://127.0.0.1:{context.node.port}{path}"
    reply = context.node.request("POST", path, load.json_body.read_bytes()).body
    script = wrk.script(context.scratch, load.json_body)
    with rivals.nginx(context.scratch, reply) as nginx, rivals.fastapi(context.scratch, load) as api:
        first_reply = api.seconds_to_first_reply
        series = measure_pairs(
            context.account,
            {
                "mayfly": lambda: _throughput(mayfly, script),
                "nginx": lambda: _throughput(nginx.url, script),
                "fastapi": lambda: _throughput(api.url, script),
            },
            until=context.repeat_until,
        )
        single = measure_pairs(
            context.account,
            {
                "mayfly": lambda: _latency(context, load, context.node.port, path),
                "nginx": lambda: _latency(context, load, nginx.port, "/"),
            },
            until=context.repeat_until,
        )
    for rival, limit in (("nginx", 0.5), ("fastapi", 6.0)):
        report.paired(
            "logistic",
            f"{CONNECTIONS} connections",
            series,
            value=series.value("mayfly", "rate"),
            unit="1/s",
            rival=rival,
            rival_value=series.value(rival, "rate"),
            ratio=lambda f, r=rival: f["mayfly"]["rate"] / f[r]["rate"],
            target=at_least(limit),
        )
    report.paired(
        "logistic",
        "1 connection, p50",
        single,
        value=single.value("mayfly", "p50"),
        unit="us",
        rival="nginx",
        rival_value=single.value("nginx", "p50"),
        ratio=lambda f: f["mayfly"]["p50"] / f["nginx"]["p50"],
        target=at_most(2.0),
    )
    report.single("logistic", "fastapi: exec to first reply", value=first_reply, unit="s")


def _throughput(url: str, script) -> Figures:
    return {"rate": wrk.requests_per_second(url, script, CONNECTIONS, SECONDS)}


def _latency(context: Context, load: Workload, port: int, path: str) -> Figures:
    taken = context.tool(
        "http_latency",
        *("--port", port, "--path", path, "--body", load.json_body, "--count", SAMPLES),
    )
    return {"p50": p50(taken["us"])}
