"""What every bench is given: the programs, the workloads, and a node of its own making."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import workload
from .machine import Account
from .statistics import p50
from .workload import ROOT, Workload

sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import node as e2e

BENCH_SECONDS = 300.0  # what a named bench may take
REPEAT_SECONDS = 200.0  # after which it repeats no pair any more


class CouldNotRun(Exception):
    """The bench has no result; the message says why."""


@dataclass(frozen=True)
class Published:
    """The compiled form of a model, as the node holds it."""

    folder: Path
    plan: dict  # load.json

    @property
    def files(self) -> list[Path]:
        """The bytes a start needs: graph and weights."""
        names = [self.plan["model"], self.plan.get("weights", "")]
        return [self.folder / name for name in names if name]

    def ort_arguments(self) -> list[str]:
        prepack = "yes" if self.plan["prepack"] else "no"
        model = str(self.folder / self.plan["model"])
        return ["--model", model, "--published", "yes", "--prepack", prepack, "--threads", "1"]


class BenchNode(e2e.Node):
    """A node whose data folder lies on the disk, not in a tmpfs."""

    def __init__(self, scratch: Path, *arguments: str):
        data = Path(tempfile.mkdtemp(prefix="node-", dir=scratch))
        self.published: dict[str, Published] = {}
        super().__init__(*arguments, data=data)

    def api(self, method: str, path: str, value=None) -> bytes:
        """One call over a connection that is kept; raises CouldNotRun unless it is answered with 2xx."""
        body = None if value is None else json.dumps(value).encode()
        headers = {} if value is None else {"Content-Type": "application/json"}
        try:
            self._connection.request(method, path, body, headers)
            reply = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            del self._connection  # the node closed it: nobody had used it for a while
            self._connection.request(method, path, body, headers)
            reply = self._connection.getresponse()
        content = reply.read()
        if reply.status // 100 != 2:
            raise CouldNotRun(f"{method} {path}: {reply.status} {content[:300]!r}")
        return content

    @cached_property
    def _connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.connect()
        connection.sock.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY
        return connection

    def running(self, name: str) -> tuple[int, int]:
        """Instances and templates of a function; over the API, for it is asked often."""
        every = json.loads(self.api("GET", "/api/v1/top"))["functions"]
        own = [entry for entry in every if entry["name"] == name]
        return sum(e["instances"] for e in own), sum(e["templates"] for e in own)

    def deploy_known(self, name: str, version: dict) -> None:
        """Deploys files whose bytes the node has."""
        lines = self.api("POST", f"/api/v1/functions/{name}/versions", version)
        if b'"result"' not in lines:
            raise CouldNotRun(f"deploy {name}: {lines[-300:]!r}")

    def evict(self, name: str) -> None:
        """Ends a function's idle processes, and waits until they have gone."""
        self.api("POST", f"/api/v1/functions/{name}/evict")
        self.wait_until(lambda: self.running(name) == (0, 0), f"{name} is at zero")

    def publish(self, name: str, model: str, folder: Path | None = None, **settings) -> None:
        """Deploys a model under a name, remembers its compiled form, and configures the function."""
        before = self._compiled()
        self.deploy(name, folder or workload.MODELS / model)
        for made in self._compiled() - before:
            plan = json.loads((made / "load.json").read_text())
            self.published[model] = Published(made, plan)
        if settings:
            self.configure(name, **settings)

    def _compiled(self) -> set[Path]:
        return {path.parent for path in (self.data / "compiled").rglob("load.json")}


class Context:
    """Made once a run. The node is shared by the benches that do not need one of their own."""

    def __init__(self, binaries: Path, scratch: Path):
        self.bin = binaries
        self.scratch = scratch
        self.account = Account()
        self._node: BenchNode | None = None
        self._nodes: list[BenchNode] = []
        self._ready: set[str] = set()
        self._fastest: dict[str, int] = {}
        self._begun = time.monotonic()
        e2e.BIN = binaries

    def begin(self) -> None:
        """A named bench begins: its five minutes run from here."""
        self._begun = time.monotonic()

    @property
    def repeat_until(self) -> float:
        return self._begun + REPEAT_SECONDS

    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    # Nodes and functions

    @property
    def node(self) -> BenchNode:
        if self._node is None:
            self._node = self.fresh_node()
        return self._node

    def fresh_node(self, *arguments: str) -> BenchNode:
        node = BenchNode(self.scratch, *arguments)
        self._nodes.append(node)
        return node

    def close_node(self, node: BenchNode) -> None:
        self._nodes.remove(node)
        try:
            node.close()
        except AssertionError as left:
            print(f"bench: {left}", file=sys.stderr)
        shutil.rmtree(node.data, ignore_errors=True)

    def epitaphs(self) -> str:
        """The last words of nodes that have died."""
        dead = [node for node in self._nodes if node.process.poll() is not None]
        return "\n".join(f"the node exited with {n.process.returncode}:\n{n.tail()}" for n in dead)

    def close(self) -> None:
        for node in list(self._nodes):
            self.close_node(node)

    def function(self, name: str, model: str, **settings) -> None:
        """Once a run: the shared node serves `model` as `name`."""
        if name not in self._ready:
            self.node.publish(name, model, **settings)
            self._ready.add(name)

    def hot_function(self, model: str) -> str:
        """A function whose instance stays."""
        name = f"{model}-hot"
        self.function(name, model, idle_timeout="1h", template_timeout="1h", keep_warm="true")
        return name

    def starting_function(self, model: str) -> str:
        """A function whose instances end with their reply, while its template stays."""
        name = f"{model}-start"
        self.function(name, model, idle_timeout="0s", template_timeout="1h", keep_warm="true")
        return name

    def workload(self, model: str, rows: int = 1) -> Workload:
        return workload.prepare(model, self.scratch, rows)

    # Programs

    @cached_property
    def onnxruntime(self) -> Path:
        return self.bin.parent / "lib" / "mayfly" / "libonnxruntime.so.1"

    def tool(self, program: str, *arguments) -> dict:
        """Runs one of the programs of bench/ and returns the JSON it prints."""
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, timeout=BENCH_SECONDS, check=False)
        if done.returncode != 0:
            raise CouldNotRun(f"{program}: {done.stderr.decode().strip()}")
        return json.loads(done.stdout)

    def http(self, load: Workload, name: str, count: int, *more, node: BenchNode | None = None):
        """`count` requests of a workload to a function; what http_latency prints."""
        return self.tool(
            "http_latency",
            *("--port", (node or self.node).port),
            *("--path", f"/v2/models/{name}/infer"),
            *load.request_arguments(),
            *("--count", count),
            *more,
        )

    def bare_ort_first(self, load: Workload, count: int) -> list[float]:
        """Exec to first result of the original model, with the faster of default options and intra=1."""
        if load.model not in self._fastest:
            trial = 2 if load.large else 10
            times = {n: p50(self._first(load, n, trial)) for n in (0, 1)}
            self._fastest[load.model] = min(times, key=times.__getitem__)
        return self._first(load, self._fastest[load.model], count)

    def _first(self, load: Workload, threads: int, count: int) -> list[float]:
        return self.tool(
            "bare_ort",
            "first",
            *("--library", self.onnxruntime, "--model", load.onnx, "--threads", threads),
            *("--count", count),
            *load.ort_arguments(),
        )["us"]

    def bare_fork(self, load: Workload, count: int, workers: int = 1) -> dict:
        """Clones of a template that holds the published model."""
        return self.tool(
            "bare_fork",
            *("--library", self.onnxruntime),
            *self.published(load.model).ort_arguments(),
            *("--count", count, "--workers", workers),
            *load.ort_arguments(),
        )

    def published(self, model: str) -> Published:
        if model not in self.node.published:
            raise CouldNotRun(f"no compiled form of {model} was found in the node's data folder")
        return self.node.published[model]


def make_scratch() -> Path:
    """On the disk that builds lie on: page-cache benches need one."""
    parent = ROOT / "build" / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=parent))
