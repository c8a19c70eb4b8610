"""Replies that were given before, urgent requests, and callers who keep killing instances."""

from __future__ import annotations

import socket
import time

from batching_test import doubler, hungry
from case import NodeCase
from node import tensor


class CachingTest(NodeCase):
    def test_equal_questions_are_answered_from_memory(self) -> None:
        model = str(doubler(self.folder / "double.onnx"))
        self.node.cli("deploy", "kept", model, "--set", "cache=true")

        def ask(*values: float):
            reply = self.node.infer("kept", tensor("x", "FP32", [1, len(values)], list(values)))
            self.assertServed(reply)
            self.assertEqual(reply.output("y"), [2 * value for value in values])
            return reply.headers["Mayfly-Cache"]

        self.assertEqual([ask(1, 2), ask(1, 2), ask(2, 1), ask(1), ask(1, 2)], ["miss", "hit", "miss", "miss", "hit"])
        self.node.cli("evict", "kept")  # no process is needed for what is known
        reply = self.node.infer("kept", tensor("x", "FP32", [1, 2], [1, 2]))
        self.assertEqual((reply.headers["Mayfly-Cache"], reply.tier), ("hit", "none"))
        self.node.cli("deploy", "kept", model, "--set", "cache=true")  # another version knows nothing
        self.assertEqual(ask(1, 2), "miss")
        usage = self.node.cli_json("usage", "--function", "kept")["rows"]
        self.assertEqual(sum(row["requests"] for row in usage), 4)  # what is kept costs nothing
        self.assertIn('mayfly_cache_total{event="hit"} 3', self.node.request("GET", "/metrics").body.decode())

    def test_nothing_is_kept_unless_asked_for(self) -> None:
        self.node.cli("deploy", "fresh", str(doubler(self.folder / "fresh.onnx")))
        for _ in range(2):
            reply = self.node.infer("fresh", tensor("x", "FP32", [1, 1], [1]))
            self.assertNotIn("Mayfly-Cache", reply.headers)
        model = str(self.folder / "fresh.onnx")
        done = self.node.cli("deploy", "fresh", model, "--set", "cache=true", "--set", "isolation=request", check=False)
        self.assertIn("cache", done.stderr.decode())

    def test_who_keeps_killing_instances_is_held_off_alone(self) -> None:
        self.node.cli("deploy", "hungry", str(hungry(self.folder / "hungry.onnx")), "--set", "memory=64MiB")
        self.node.deploy("other", doubler(self.folder / "other.onnx"))
        deadly = tensor("x", "INT64", [1], [100_000_000])
        for _ in range(3):
            self.assertEqual(self.node.infer("hungry", deadly).reason, "out_of_memory")
            time.sleep(0.15)  # what dies at once counts once
        reply = self.node.infer("hungry", tensor("x", "INT64", [1], [1]))
        self.assertRefused(reply, 429, "repeated_crashes")
        self.assertGreaterEqual(int(reply.headers["Retry-After"]), 1)
        self.assertServed(self.node.infer("other", tensor("x", "FP32", [1, 1], [1])))
        # Loopback has many addresses: another of them is another caller.
        with socket.create_connection(("127.0.0.1", self.node.port), source_address=("127.0.0.2", 0)) as bob:
            body = b'{"inputs":[{"name":"x","datatype":"INT64","shape":[1],"data":[1]}]}'
            head = f"POST /v2/models/hungry/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            bob.sendall(head.encode() + body)
            self.assertIn(b"200 OK", bob.recv(4096))
        self.node.wait_until(
            lambda: self.node.infer("hungry", tensor("x", "INT64", [1], [1])).status == 200, "it may ask again"
        )

    def test_priorities_are_read_and_wrong_ones_refused(self) -> None:
        # That the most urgent goes first is a unit test's business: in virtual time.
        self.node.deploy("line", doubler(self.folder / "line.onnx"))
        row = tensor("x", "FP32", [1, 1], [1])
        for priority in (0, 1, 1000, 2**40):
            self.assertServed(self.node.infer("line", row, parameters={"priority": priority}))
        for wrong in (-1, 1.5, "high"):
            self.assertRefused(self.node.infer("line", row, parameters={"priority": wrong}), 400)
