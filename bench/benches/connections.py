"""What 10,000 idle keep-alive connections cost the server, and those who are at work beside them.

Memory: the server's proportional set size before they come and when each has been answered once. The kernel's share,
of both ends of each, is what slab and socket pages grow by. Work: one row to a hot logistic regression, with and
without the idle connections in turn, on the same node.
"""

from __future__ import annotations

import re
import resource
import socket
from contextlib import suppress
from pathlib import Path

from harness import wrk
from harness.context import BenchNode, Context, CouldNotRun
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least, at_most
from harness.statistics import p50

MODELS = ("logistic",)

IDLE = 10_000
ALLOWANCE = 8.0  # KiB of server memory a connection
BUSY = 64
SECONDS = 3
SAMPLES = 2000
KIB = 1024
REQUEST = b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
FLAGS = (
    *("--max-connections", str(IDLE + 1000)),
    *("--max-connections-per-address", str(IDLE + 1000)),
    *("--keep-alive-timeout", "1h"),
)


def run(context: Context, report: Report) -> None:
    _allow_descriptors()
    node = context.fresh_node(*FLAGS)
    crowd = Crowd(node)
    try:
        node.publish("hot", "logistic", idle_timeout="1h", template_timeout="1h", keep_warm="true")
        _work(context, node, crowd, report)
    finally:
        crowd.leave()
        context.close_node(node)
    _memory(context, report)


class Crowd:
    """The idle connections, each of which has been answered once."""

    def __init__(self, node: BenchNode):
        self._node = node
        self._connections: list[socket.socket] = []

    def come(self) -> None:
        while len(self._connections) < IDLE:
            connection = socket.create_connection(("127.0.0.1", self._node.port), timeout=60)
            self._connections.append(connection)
            connection.sendall(REQUEST)
            if not connection.recv(4096).startswith(b"HTTP/1.1 200 "):
                raise CouldNotRun("an idle connection was refused")
            connection.setblocking(False)

    def leave(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def complete(self) -> bool:
        """None has been closed by the server."""
        for connection in self._connections:
            with suppress(BlockingIOError):
                connection.recv(1)
                return False
        return len(self._connections) == IDLE


def _work(context: Context, node: BenchNode, crowd: Crowd, report: Report) -> None:
    load = context.workload("logistic")
    path = "/v2/models/hot/infer"
    url, script = f"http://127.0.0.1:{node.port}{path}", wrk.script(context.scratch, load.json_body)

    def work() -> Figures:
        rate = wrk.requests_per_second(url, script, BUSY, SECONDS)
        taken = context.http(load, "hot", SAMPLES, node=node)
        return {"rate": rate, "p50": p50(taken["us"])}

    def alone() -> Figures:
        crowd.leave()
        return work()

    def crowded() -> Figures:
        crowd.come()
        figures = work()
        if not crowd.complete():
            raise CouldNotRun("idle connections were closed while others worked")
        return figures

    series = measure_pairs(
        context.account, {"alone": alone, "crowded": crowded}, until=context.repeat_until
    )
    for metric, figure, unit, target in (
        (f"{BUSY} connections beside {IDLE} idle", "rate", "1/s", at_least(0.9)),
        (f"1 connection beside {IDLE} idle, p50", "p50", "us", at_most(1.1)),
    ):
        report.paired(
            "logistic",
            metric,
            series,
            value=series.value("crowded", figure),
            unit=unit,
            rival="without",
            rival_value=series.value("alone", figure),
            ratio=lambda f, key=figure: f["crowded"][key] / f["alone"][key],
            target=target,
        )


def _memory(context: Context, report: Report) -> None:
    """On a node of its own: what the crowds before have left behind would hide what one takes."""
    fresh = context.fresh_node(*FLAGS)
    idle = Crowd(fresh)
    try:
        fresh.request("GET", "/v2/health/live")
        before, kernel_before = _server_bytes(fresh), _kernel_bytes()
        idle.come()
        taken = (_server_bytes(fresh) - before) / IDLE / KIB
        kernel = (_kernel_bytes() - kernel_before) / IDLE / KIB
    finally:
        idle.leave()
        context.close_node(fresh)
    report.single(
        "-",
        "server memory, an idle connection",
        value=taken,
        unit="KiB",
        rival="allowance",
        rival_value=ALLOWANCE,
        target=at_most(1.0),
    )
    report.single("-", "kernel memory, both ends", value=kernel, unit="KiB")


def _server_bytes(node: BenchNode) -> int:
    rollup = Path(f"/proc/{node.process.pid}/smaps_rollup").read_text()
    return KIB * int(re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)[1])


def _kernel_bytes() -> int:
    """Slab, and the pages of socket buffers."""
    slab = re.search(r"^Slab: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    pages = re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    return KIB * int(slab[1]) + resource.getpagesize() * (int(pages[1]) if pages else 0)


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 1000:
        raise CouldNotRun(f"{IDLE} connections need more than {hard} descriptors: ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 1000), hard))
