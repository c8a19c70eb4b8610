"""A Python function with NumPy and scikit-learn: its starts beside plain python3, its requests beside FastAPI.

Both sides have the same packages (the wheels that the function is deployed with), the same function.py and the same
pickled scaler and logistic regression. A start is what a client waits for: of Mayfly the reply to a request that finds no
more than its tier says, of the rivals exec, or os.fork(), to the result.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from harness import machine, rivals, wrk
from harness.context import BenchNode, Context, CouldNotRun
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least, at_most
from harness.statistics import p50
from harness.workload import ROOT

MODELS = ()

WHEELS = ROOT / "build" / "wheels-bench"
PACKAGES = ("numpy==1.26.4", "scikit-learn==1.5.2", "scipy==1.13.1", "joblib==1.4.2", "threadpoolctl==3.5.0")
PROGRAM = ROOT / "bench" / "rivals" / "python_function.py"
PYTHON = "/usr/bin/python3"

FUNCTION = """
    import pickle

    import numpy
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler


    def load(ctx):
        with open(ctx.path("model.pickle"), "rb") as file:
            return pickle.load(file)


    def predict(inputs: {"x": "FP32[-1,30]"}, state, ctx) -> {"probability": "FP64[-1]"}:
        return {"probability": state.predict_proba(inputs["x"])[:, 1]}
"""

STARTS = 3  # of a window, where one takes a second
FORKS = 145  # of a window: 1,015 in seven
# The rival's next process begins when its last has been reaped; so does Mayfly's.
SETTLE_US = 10_000
INSTANCES = 100
CONNECTIONS = 64
SECONDS = 3
PATIENCE = 60.0
KIB = 1024


class PythonBench:
    def __init__(self, context: Context, report: Report):
        self.context, self.report = context, report
        self.packages = _installed(context.scratch)
        self.folder = context.scratch / "function"
        self.folder.mkdir()
        (self.folder / "function.py").write_text(textwrap.dedent(FUNCTION))
        self.rival("make")
        row = json.loads((self.folder / "example.json").read_text())["x"][0]
        given = {"name": "x", "datatype": "FP32", "shape": [1, 30], "data": row}
        self.body = context.scratch / "python.json"
        self.body.write_text(json.dumps({"inputs": [given]}))
        self.deployed = self.with_wheels()

    def with_wheels(self) -> Path:
        """The folder as it is deployed: the rivals have the wheels unpacked."""
        folder = self.context.scratch / "deployed"
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(WHEELS, folder / "wheels")
        (folder / "requirements.txt").write_text("\n".join(PACKAGES) + "\n")
        return folder

    # The rivals

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.packages), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def command(self, what: str, *more) -> list[str]:
        return [PYTHON, str(PROGRAM), what, str(self.folder), *map(str, more)]

    def rival(self, what: str, *more) -> str:
        done = subprocess.run(
            self.command(what, *more), env=self.environment(), capture_output=True, timeout=PATIENCE, check=False
        )
        if done.returncode != 0:
            raise CouldNotRun(f"{what}: {done.stderr.decode()[-500:]}")
        return done.stdout.decode()

    def plain(self) -> Figures:
        """exec to the result, of a python3 process that does what the function does."""
        times = []
        for _ in range(STARTS):
            begun = time.perf_counter()
            with subprocess.Popen(self.command("first"), env=self.environment(), stdout=subprocess.PIPE) as process:
                line = process.stdout.readline()
                times.append((time.perf_counter() - begun) * 1e6)
            if not line.startswith(b"["):
                raise CouldNotRun("the plain process gave no result")
        return {"p50": p50(times)}

    def forks(self) -> Figures:
        return {"p50": p50(json.loads(self.rival("fork", FORKS))["us"])}

    # Mayfly

    def first(self, node: BenchNode, tier: str, count: int = 1) -> list[float]:
        """Microseconds of replies that found no more than their tier says."""
        taken = self.context.tool(
            "http_latency",
            *("--port", node.port, "--path", "/v2/models/python/infer", "--body", self.body),
            *("--count", count, "--expect-start", tier, "--pause-us", SETTLE_US),
        )
        return taken["us"]

    def prepared(self, node: BenchNode, tier: str, prepare) -> Figures:
        """Each after what `prepare` does, which is not timed."""
        times = []
        for _ in range(STARTS):
            prepare()
            times += self.first(node, tier)
        return {"p50": p50(times)}

    def node(self, *arguments: str) -> BenchNode:
        node = self.context.fresh_node("--index-url", "off", *arguments)
        node.deploy("python", self.deployed)
        node.configure("python", idle_timeout="1h", template_timeout="1h")
        return node

    def run(self) -> None:
        with_environments = self.node()
        without = self.node("--environment-templates", "none")
        self.cold_starts(with_environments, without)
        self.context.close_node(without)
        self.template_starts(with_environments)
        self.shared_memory(with_environments)
        self.throughput(with_environments)
        self.context.close_node(with_environments)

    def cold_starts(self, kept: BenchNode, none: BenchNode) -> None:
        def only_environment() -> None:
            kept.evict("python")
            kept.wait_until(lambda: self.environments(kept) == 1, "an environment template waits")

        self.first(kept, "cold")
        series = measure_pairs(
            self.context.account,
            {
                "environment": lambda: self.prepared(kept, "environment", only_environment),
                "cold": lambda: self.prepared(none, "cold", lambda: none.evict("python")),
                "plain": self.plain,
            },
            until=self.context.repeat_until,
        )
        for tier, limit in (("environment", 1 / 20), ("cold", 1.05)):
            self.paired(f"p50 {tier}", series, tier, "plain", "python3 exec to result", at_most(limit))

    def template_starts(self, node: BenchNode) -> None:
        node.configure("python", idle_timeout="0s", keep_warm="true")
        self.first(node, "template", 20)
        series = measure_pairs(
            self.context.account,
            {
                "template": lambda: {"p50": p50(self.first(node, "template", FORKS))},
                "fork": self.forks,
                "plain": self.plain,
            },
            until=self.context.repeat_until,
        )
        self.paired("p50 template", series, "template", "fork", "os.fork() to result", at_most(1.5))
        self.paired("p50 template", series, "template", "plain", "python3 exec to result", at_most(1 / 50))

    def shared_memory(self, node: BenchNode) -> None:
        node.configure("python", idle_timeout="1h", min_instances=INSTANCES)
        node.wait_until(lambda: node.running("python")[0] >= INSTANCES, f"{INSTANCES} instances live")
        self.first(node, "hot", 200)
        held = [machine.private_bytes(pid) for pid in node.instances()]
        self.report.single(
            "python", f"private, largest of {len(held)}", value=max(held) / KIB, unit="KiB",
            rival="allowance", rival_value=5 * KIB, target=at_most(1.0),
        )
        node.configure("python", min_instances=0, keep_warm="false")
        node.evict("python")

    def throughput(self, node: BenchNode) -> None:
        node.cli("deploy", "batched", str(self.deployed), "--set", "max_batch=auto")
        node.configure("batched", idle_timeout="1h")
        script = wrk.script(self.context.scratch, self.body)

        def rate(name: str) -> Figures:
            url = f"http://127.0.0.1:{node.port}/v2/models/{name}/infer"
            return {"rate": wrk.requests_per_second(url, script, CONNECTIONS, SECONDS)}

        with rivals.fastapi_function(self.folder, self.packages, self.body.read_bytes()) as api:
            series = measure_pairs(
                self.context.account,
                {
                    "python": lambda: rate("python"),
                    "batched": lambda: rate("batched"),
                    "fastapi": lambda: {"rate": wrk.requests_per_second(api.url, script, CONNECTIONS, SECONDS)},
                },
                until=self.context.repeat_until,
            )
        for side, words in (("python", ""), ("batched", ", max_batch = auto")):
            self.report.paired(
                "python", f"{CONNECTIONS} connections{words}", series, value=series.value(side, "rate"), unit="1/s",
                rival="fastapi", rival_value=series.value("fastapi", "rate"),
                ratio=lambda f, of=side: f[of]["rate"] / f["fastapi"]["rate"], target=at_least(1.5),
            )

    def paired(self, metric: str, series, window: str, rival: str, rival_name: str, target) -> None:
        self.report.paired(
            "python", metric, series, value=series.value(window, "p50"), unit="us",
            rival=rival_name, rival_value=series.value(rival, "p50"),
            ratio=lambda f: f[window]["p50"] / f[rival]["p50"], target=target,
        )

    @staticmethod
    def environments(node: BenchNode) -> int:
        for line in node.api("GET", "/metrics").decode().splitlines():
            if line.startswith('mayfly_environment_templates{quantity="ready"}'):
                return int(float(line.split()[-1]))
        raise CouldNotRun("the node tells of no environment templates")


def run(context: Context, report: Report) -> None:
    PythonBench(context, report).run()


def _installed(scratch: Path) -> Path:
    """The packages, for the rivals; fetched once."""
    if len(list(WHEELS.glob("*.whl"))) < len(PACKAGES):
        print("python: fetching wheels", file=sys.stderr)
        _pip("download", "--no-deps", "--only-binary=:all:", "--python-version", "3.11", "-d", WHEELS, *PACKAGES)
    target = scratch / "packages"
    _pip("install", "--no-index", "--no-deps", "--target", target, *WHEELS.glob("*.whl"))
    return target


def _pip(*arguments) -> None:
    try:
        subprocess.run([PYTHON, "-m", "pip", "-q", *map(str, arguments)], check=True, timeout=240)
    except (OSError, subprocess.SubprocessError) as problem:
        raise CouldNotRun(f"the packages cannot be had: {problem}") from problem
