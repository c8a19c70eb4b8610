"""wrk as the load generator."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from .context import CouldNotRun


def script(scratch: Path, body: Path) -> Path:
    """A Lua script that posts the content of a file. A JSON text is also a Lua text here: plain ASCII, no escapes."""
    text = json.dumps(body.read_text())
    path = scratch / f"{body.stem}.lua"
    path.write_text(
        f'wrk.method = "POST"\nwrk.body = {text}\nwrk.headers["Content-Type"] = "application/json"\n'
    )
    return path


def binary_script(scratch: Path, stem: str, loads: list) -> Path:
    """Posts the binary bodies of several workloads in turn."""
    path = scratch / f"{stem}-binary.lua"
    requests = ",\n".join(
        f'{{"{load.binary_body}", "{load.binary_header.split(": ")[1]}"}}' for load in loads
    )
    path.write_text(
        f"""local files = {{{requests}}}
local requests = {{}}
local last = 0

function init(arguments)
  for i, file in ipairs(files) do
    local content = io.open(file[1], "rb"):read("*a")
    local headers = {{["Content-Type"] = "application/octet-stream", ["Inference-Header-Content-Length"] = file[2]}}
    requests[i] = wrk.format("POST", nil, headers, content)
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end
"""
    )
    return path


def requests_per_second(url: str, lua: Path, connections: int, seconds: int) -> float:
    threads = min(2, connections)
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "-s", str(lua), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    rate = re.search(r"Requests/sec:\s*([0-9.]+)", done.stdout)
    failures = re.search(r"Non-2xx.*|Socket errors: .*", done.stdout)
    if done.returncode != 0 or rate is None or failures is not None:
        raise CouldNotRun(f"wrk on {url}: {failures[0] if failures else done.stderr.strip()}")
    return float(rate[1])
