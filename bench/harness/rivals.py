"""Servers that Mayfly is measured against, each a context manager that has it listening."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import node as e2e

from .context import CouldNotRun
from .machine import CPUS
from .workload import ROOT, Workload

NGINX_WORKERS = 2
PATIENCE = 60.0

# The quickest event loop and HTTP parser that uvicorn has are part of what people install.
REQUIREMENTS = (
    "fastapi==0.115.6",
    "uvicorn==0.34.0",
    "uvloop==0.21.0",
    "httptools==0.6.4",
    "onnxruntime==1.31.1",
    "numpy==2.2.1",
    "scipy==1.15.0",
    "scikit-learn==1.6.0",
)
# The library that ours is of; its wheel asks for a newer Python than Debian's, and works with this one.
XGBOOST = ("--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "xgboost-cpu==3.4.1")


@dataclass(frozen=True)
class Rival:
    port: int
    seconds_to_first_reply: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def nginx(scratch: Path, reply: bytes) -> Iterator[Rival]:
    """Answers everything with `reply`, which holds no quote and no dollar sign."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise CouldNotRun("nginx is missing: scripts/setup.sh --bench installs it")
    text = reply.decode()
    if "'" in text or "$" in text:
        raise CouldNotRun("the reply cannot stand in nginx's configuration")
    port, folder = e2e.free_port(), scratch / "nginx"
    folder.mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(
        f"""
worker_processes {NGINX_WORKERS};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  tcp_nodelay on;
  default_type application/json;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{text}'; }} }}
}}
"""
    )
    with _running([program, "-c", str(config), "-p", str(folder)], port) as rival:
        yield rival


@contextmanager
def fastapi(scratch: Path, load: Workload) -> Iterator[Rival]:
    """rivals/fastapi_server.py under uvicorn, one worker a core."""
    python = bench_python()
    port = e2e.free_port()
    command = [str(python), "-m", "uvicorn", "fastapi_server:app"]
    command += ["--app-dir", str(ROOT / "bench" / "rivals"), "--port", str(port)]
    command += ["--workers", str(CPUS), "--no-access-log", "--log-level", "error"]
    environment = os.environ | {"MODEL": str(load.onnx), "ORT_DISABLE_TELEMETRY": "1"}
    body = load.json_body.read_bytes()
    with _running(command, port, environment=environment, body=body) as rival:
        yield rival


@contextmanager
def fastapi_function(function: Path, packages: Path, body: bytes) -> Iterator[Rival]:
    """rivals/fastapi_function.py, as above; `packages`: a folder of what the function imports."""
    port = e2e.free_port()
    command = [str(bench_python()), "-m", "uvicorn", "fastapi_function:app"]
    command += ["--app-dir", str(ROOT / "bench" / "rivals"), "--port", str(port)]
    command += ["--workers", str(CPUS), "--no-access-log", "--log-level", "error"]
    environment = os.environ | {
        "FUNCTION": str(function),
        "PYTHONPATH": str(packages),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with _running(command, port, environment=environment, body=body) as rival:
        yield rival


def bench_python() -> Path:
    """The rival's own environment, made when it is missing."""
    folder = ROOT / ".deps" / "bench-venv"
    stamp = folder / "stamp"
    wanted = "\n".join((*REQUIREMENTS, *XGBOOST))
    if not stamp.exists() or stamp.read_text() != wanted:
        print("bench: creating .deps/bench-venv", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            subprocess.run(["/usr/bin/python3", "-m", "venv", folder], check=True)
            for packages in (REQUIREMENTS, XGBOOST):
                pip = [folder / "bin" / "pip", "install", "-q", *packages]
                subprocess.run(pip, check=True, timeout=240)
        except (OSError, subprocess.SubprocessError) as problem:
            raise CouldNotRun(f"the rivals' packages could not be installed: {problem}") from problem
        stamp.write_text(wanted)
    return folder / "bin" / "python"


@contextmanager
def _running(
    command: list[str], port: int, *, environment=None, body: bytes = b"{}"
) -> Iterator[Rival]:
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        while not _answers(port, body):
            if process.poll() is not None or time.monotonic() > begun + PATIENCE:
                raise CouldNotRun(f"{Path(command[0]).name} does not answer")
            time.sleep(0.005)
        yield Rival(port, time.monotonic() - begun)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(port: int, body: bytes) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", body, method="POST")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            reply.read()
            return True
    except urllib.error.HTTPError as refused:
        raise CouldNotRun(f"a rival answers {refused.code}: {refused.read()[:300]!r}") from refused
    except OSError:
        return False
