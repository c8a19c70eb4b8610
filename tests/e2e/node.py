"""A node under test: `mayfly serve` on a free port with a data folder of its own.

What the tests know of the command line's output stands here (`running`, `usage`, `versions`), so that a change of shape
is one edit.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("MAYFLY_MODELS", ROOT / "build" / "models"))
BIN = ROOT / "build" / os.environ.get("PRESET", "dev") / "bin"

PATIENCE = 60.0  # seconds; generous, for sanitizer builds on a busy machine


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)

    @property
    def reason(self) -> str | None:
        return self.json().get("reason")

    @property
    def tier(self) -> str | None:
        return self.headers.get("Mayfly-Start")

    def output(self, name: str):
        """The data of one output of a v2 JSON reply."""
        return next(tensor["data"] for tensor in self.json()["outputs"] if tensor["name"] == name)


class Node:
    """Starts on construction; `close` stops it and raises AssertionError for anything it leaves behind."""

    scheme = "http"
    environment: dict[str, str] = {}  # of the command line, besides MAYFLY_URL
    binary = "mayfly"
    server_environment: dict[str, str] = {}

    def __init__(self, *arguments: str, data: Path | None = None):
        self._own_data = data is None
        self.data = data or Path(tempfile.mkdtemp(prefix="mayfly-e2e-"))
        self._arguments = arguments
        self.log = Path(f"{self.data}.log")
        self._before = footprint(self.data)
        self._seen: set[tuple[int, str]] = set()  # every descendant that was ever looked at
        self.start()

    # Process

    def start(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        command = [
            str(BIN / self.binary),
            "serve",
            "--listen",
            f"127.0.0.1:{self.port}",
            "--data",
            str(self.data),
            *self._arguments,
        ]
        if "--grpc-listen" not in self._arguments:
            command += ["--grpc-listen", "127.0.0.1:0"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.server_environment,
            )
        self.wait_until(self._is_ready, "the node becomes ready")

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self._seen |= descendants(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL, and waits until every process of the node has gone."""
        self._seen |= descendants(self.process.pid)
        self.process.kill()
        self.process.wait(PATIENCE)
        wait_until(lambda: not alive(self._seen), "the node's processes end with it")

    def close(self) -> None:
        try:
            if self.process.poll() is None:
                status = self.stop()
                assert status == 0, f"the node exited with {status}:\n{self.tail()}"
            wait_until(lambda: not alive(self._seen), "the node's processes end with it")
            left = footprint(self.data) - self._before
            assert not left, f"the node left behind: {sorted(left)}"
        finally:
            if self.process.poll() is None:
                self.process.kill()
            if self._own_data:
                shutil.rmtree(self.data, ignore_errors=True)
                self.log.unlink(missing_ok=True)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def grpc(self) -> str:
        """Where it serves gRPC: "127.0.0.1:PORT", or "off"."""
        return (self.data / "run" / "grpc").read_text().strip()

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the node exited with {self.process.returncode}:\n{self.tail()}")
        try:
            return self.request("GET", "/v2/health/ready").status == 200
        except OSError:
            return False

    def wait_until(self, condition, what: str) -> None:
        wait_until(condition, what)

    # Command line

    def cli(
        self, *arguments: str, stdin: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [str(BIN / "mayfly"), *arguments],
            input=stdin,
            capture_output=True,
            timeout=10 * PATIENCE,
            env=os.environ | {"MAYFLY_URL": self.url} | self.environment,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"mayfly {' '.join(arguments)} exited with {done.returncode}:\n"
                f"{done.stdout.decode()}{done.stderr.decode()}"
            )
        return done

    def cli_json(self, *arguments: str):
        return json.loads(self.cli(*arguments, "--json").stdout)

    def deploy(self, name: str, model: str | Path | None = None) -> None:
        """`model`: a generated model's name (by default the function's own), or a path."""
        path = model if isinstance(model, Path) else MODELS / (model or name)
        self.cli("deploy", name, str(path))

    def configure(self, name: str, **settings) -> None:
        self.cli("configure", name, *(f"{key}={value}" for key, value in settings.items()))

    def running(self, name: str) -> tuple[int, int]:
        """Instances and templates of a function."""
        entries = [f for f in self.cli_json("status")["functions"] if f["name"] == name]
        return sum(f["instances"] for f in entries), sum(f["templates"] for f in entries)

    def versions(self, name: str) -> list[int]:
        return [entry["version"] for entry in self.cli_json("versions", name)["versions"]]

    def usage(self, name: str) -> dict:
        """The priced totals of a function: at least `requests`, `cpu_seconds`, `gb_seconds`."""
        rows = self.cli_json("usage", "--function", name)["rows"]
        return {
            "requests": sum(row["requests"] for row in rows),
            "cpu_seconds": sum(float(row["cpu_seconds"]) for row in rows),
            "gb_seconds": sum(float(row["gb_seconds"]) for row in rows),
        }

    def processes(self) -> set[tuple[int, str]]:
        """Every live descendant of the server, as (pid, command)."""
        found = descendants(self.process.pid)
        self._seen |= found
        return {(pid, _stat(pid)[0]) for pid, _ in found if _stat(pid)}

    def instances(self) -> list[int]:
        """The children of every jail's init but its oldest, the template."""
        families: dict[str, list[tuple[int, int]]] = {}
        for pid, started in descendants(self.process.pid):
            if stat := _stat(pid):
                families.setdefault(stat[2], []).append((int(started), pid))
        families.pop(str(self.process.pid), None)
        return [pid for family in families.values() for _, pid in sorted(family)[1:]]

    # Requests

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def request(
        self, method: str, path: str, body=None, headers: dict[str, str] | None = None
    ) -> Reply:
        connection = self.connect()
        try:
            try:
                connection.request(method, path, body, headers or {})
            except BrokenPipeError:
                pass  # the server has read enough of the body to refuse it: its reply is there
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post_json(self, path: str, value, headers: dict[str, str] | None = None) -> Reply:
        return self.request("POST", path, json.dumps(value).encode(), headers)

    def infer(self, name: str, *inputs: dict, **rest) -> Reply:
        """`inputs`: v2 tensors, as `tensor` makes them; `rest`: further keys of the request."""
        return self.post_json(f"/v2/models/{name}/infer", {"inputs": list(inputs), **rest})

    def example(self, name: str, model: str | None = None) -> Reply:
        body = (MODELS / (model or name) / "example.json").read_bytes()
        return self.request("POST", f"/v2/models/{name}/infer", body)

    def raw(self, content: bytes) -> bytes:
        """Bytes straight to the socket; what comes back until the server closes or has been silent for 2 s."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(content)
            received = b""
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except (TimeoutError, ConnectionResetError):
                pass
            return received


def tensor(name: str, datatype: str, shape: list[int], data: list) -> dict:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def expected(model: str) -> dict:
    """expected.json of a generated model."""
    return json.loads((MODELS / model / "expected.json").read_text())


def variant(folder: Path, model: str, settings: str) -> Path:
    """A copy of a generated model under `folder` with its own mayfly.toml."""
    copy = folder / f"{model}-{len(list(folder.iterdir()))}"
    shutil.copytree(MODELS / model, copy)
    (copy / "mayfly.toml").write_text(settings)
    return copy


def wait_until(condition, what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain until {what}")
        time.sleep(0.02)


def cpu_ticks(pid: int) -> int:
    """User and system time of a process so far, in clock ticks; 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(root: int) -> set[tuple[int, str]]:
    """(pid, start time) of every process below `root`."""
    children: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if stat := _stat(pid):
            children.setdefault(int(stat[2]), []).append(pid)
    found, pending = set(), [root]
    while pending:
        for pid in children.get(pending.pop(), []):
            pending.append(pid)
            if stat := _stat(pid):
                found.add((pid, stat[20]))
    return found


def alive(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those that still exist and are not a later process of the same number."""
    return {
        (pid, started) for pid, started in processes if (stat := _stat(pid)) and stat[20] == started
    }


def _stat(pid: int) -> list[str] | None:
    """The command's name, then the fields of /proc/PID/stat from the third on: [1] state, [2] parent, [20] start."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    opened, closed = text.index("("), text.rindex(")")
    return [text[opened + 1 : closed], *text[closed + 2 :].split()]


def footprint(data: Path | None = None) -> set[str]:
    """Mounts and control groups that bear the project's name: what a stopped node must not leave.

    With `data` those of the node with that data folder, whatever other nodes do meanwhile.
    """
    node = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12] if data else ""
    mounts = {
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if "mayfly" in line and str(data or "") in line
    }
    groups = {folder for folder, _, _ in os.walk("/sys/fs/cgroup") if f"mayfly-{node}" in folder}
    return mounts | groups
