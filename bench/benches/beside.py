"""Requests to a hot logistic regression while jobs keep every core busy, beside the same requests on a quiet node.

A job is a guest: it gets the processor time that nobody else wants. The jobs here are as many as there are cores, each a
Python loop that never sleeps; between the windows of a pair they are paused and resumed.
"""

from __future__ import annotations

import os
import textwrap
import time

from harness import wrk
from harness.context import Context
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least, at_most
from harness.statistics import p50, p99
from harness.workload import Workload

MODELS = ("logistic",)

CONNECTIONS = 64
SECONDS = 2
SAMPLES = 2000  # at one connection, a window
PATIENCE = 60
SPIN = """
    import os

    def run(inputs, ctx):
        nothing = os.path.join(ctx.scratch, "nothing")
        os.makedirs(nothing)
        while True:
            for _ in range(200_000):
                pass
            ctx.progress(text="at work")
            if ctx.should_stop():
                ctx.checkpoint(nothing)
"""


def run(context: Context, report: Report) -> None:
    load, name = context.workload("logistic"), context.hot_function("logistic")
    path = f"/v2/models/{name}/infer"
    url = f"http://127.0.0.1:{context.node.port}{path}"
    script = wrk.script(context.scratch, load.json_body)
    jobs = Jobs(context)
    try:
        many = measure_pairs(
            context.account,
            {
                "busy": lambda: jobs.beside(lambda: _rate(url, script)),
                "quiet": lambda: _rate(url, script),
            },
            until=context.repeat_until,
        )
        single = measure_pairs(
            context.account,
            {
                "busy": lambda: jobs.beside(lambda: _latency(context, load, path)),
                "quiet": lambda: _latency(context, load, path),
            },
            until=context.repeat_until,
        )
    finally:
        jobs.end()
    report.paired(
        "logistic",
        f"{CONNECTIONS} connections",
        many,
        value=many.value("busy", "rate"),
        unit="1/s",
        rival="quiet node",
        rival_value=many.value("quiet", "rate"),
        ratio=lambda f: f["busy"]["rate"] / f["quiet"]["rate"],
        target=at_least(0.8),
    )
    for figure, target in (("p50", None), ("p99", at_most(2.0))):
        report.paired(
            "logistic",
            f"1 connection, {figure}",
            single,
            value=single.value("busy", figure),
            unit="us",
            rival="quiet node",
            rival_value=single.value("quiet", figure),
            ratio=lambda f, of=figure: f["busy"][of] / f["quiet"][of],
            target=target,
        )


class Jobs:
    """As many as there are cores, paused but for `beside`."""

    def __init__(self, context: Context):
        self._node = context.node
        folder = context.scratch / "spin"
        folder.mkdir()
        (folder / "function.py").write_text(textwrap.dedent(SPIN))
        self._node.cli("deploy", "spin", str(folder))
        self._ids = [
            self._node.post_json("/api/v1/functions/spin/jobs", {"kind": "run"}).json()["id"]
            for _ in range(os.cpu_count() or 1)
        ]
        self._work()
        self._pause()

    def beside(self, measure) -> Figures:
        self._each("resume")
        self._work()
        try:
            return measure()
        finally:
            self._pause()

    def end(self) -> None:
        for job in self._ids:
            self._node.request("DELETE", f"/api/v1/jobs/{job}")

    def _each(self, verb: str) -> None:
        for job in self._ids:
            self._node.request("POST", f"/api/v1/jobs/{job}/{verb}")

    def _work(self) -> None:
        self._wait(lambda job: job["state"] == "running" and job["progress"]["text"] == "at work")
        time.sleep(0.5)  # its start is over

    def _pause(self) -> None:
        self._each("pause")
        self._wait(lambda job: job["state"] == "paused")

    def _wait(self, so) -> None:
        deadline = time.monotonic() + PATIENCE
        for job in self._ids:
            while not so(self._node.request("GET", f"/api/v1/jobs/{job}").json()):
                if time.monotonic() > deadline:
                    raise AssertionError(f"job {job} is not as it should be after {PATIENCE} s")
                time.sleep(0.02)


def _rate(url: str, script) -> Figures:
    return {"rate": wrk.requests_per_second(url, script, CONNECTIONS, SECONDS)}


def _latency(context: Context, load: Workload, path: str) -> Figures:
    taken = context.tool(
        "http_latency",
        *("--port", context.node.port, "--path", path, "--body", load.json_body, "--count", SAMPLES),
    )
    return {"p50": p50(taken["us"]), "p99": p99(taken["us"])}
