"""What is bounded, and how a refusal reads: 413, 429, 431, 503, 504 with a reason."""

from __future__ import annotations

import gzip
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from case import NodeCase
from node import Reply, tensor, variant

ONE = tensor("x", "FP32", [1], [1])


class SizeTest(NodeCase):
    functions = {"f": "identity_fp32", "big": "big_reply"}

    def test_a_body_said_to_be_too_long_is_refused_before_it_is_read(self) -> None:
        received = self.node.raw(
            b"POST /v2/models/f/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1099511627776\r\n\r\n"
        )
        self.assertTrue(received.startswith(b"HTTP/1.1 413 "), received[:200])
        self.assertIn(b'"too_large"', received)

    def test_a_body_that_unpacks_too_far_is_refused(self) -> None:
        bomb = (
            gzip.compress(bytes(1 << 20), 9) * 4096
        )  # 4 GiB in 4 MiB: members in a row are one stream
        reply = self.node.request("POST", "/v2/models/f/infer", bomb, {"Content-Encoding": "gzip"})
        self.assertRefused(reply, 413, "too_large")

    def test_json_nested_too_deeply_is_refused(self) -> None:
        deep = (
            '{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":'
            + "[" * 5000
            + "1"
            + "]" * 5000
            + "}]}"
        )
        self.assertIn(
            self.node.request("POST", "/v2/models/f/infer", deep.encode()).status, (400, 413)
        )

    def test_headers_too_long_are_refused(self) -> None:
        received = self.node.raw(
            b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"
        )
        self.assertIn(received[:13], (b"HTTP/1.1 431 ", b"HTTP/1.1 413 "))

    def test_a_reply_too_long_is_refused_with_the_setting(self) -> None:
        reply = self.node.infer("big", tensor("count", "INT64", [1], [60_000_000]))
        self.assertRefused(reply, 413, "too_large")
        self.assertServed(self.node.example("big", "big_reply"))


class BodyMemoryTest(NodeCase):
    functions = {"f": "identity_fp32"}
    arguments = ("--body-memory", "1MiB")

    def test_large_bodies_share_a_budget_and_small_ones_need_none(self) -> None:
        large = json.dumps({"inputs": [ONE]}).encode() + b" " * 900_000
        path = "/v2/models/f/infer"
        self.assertServed(self.node.infer("f", ONE))  # known from here on: heads are met in order
        first = self.node.connect()
        first.putrequest("POST", path)
        first.putheader("Content-Length", str(len(large)))
        first.endheaders(large[:450_000])
        self.node.wait_until(
            lambda: self.node.request("POST", path, large).status == 503, "the budget is taken"
        )
        reply = self.node.request("POST", path, large)
        self.assertRefused(reply, 503, "node_busy", "limits.body_memory")
        self.assertEqual(reply.headers["Retry-After"], "1")
        packed = self.node.request(
            "POST", path, gzip.compress(large), {"Content-Encoding": "gzip"}
        )
        self.assertRefused(packed, 503, "node_busy")
        self.assertServed(self.node.infer("f", ONE))
        first.send(large[450_000:])
        self.assertEqual(first.getresponse().status, 200)
        first.close()
        self.assertServed(self.node.request("POST", path, large))


class QueueTest(NodeCase):
    functions = {"slow": "slow", "f": "identity_fp32"}

    def test_a_full_queue_is_answered_at_once(self) -> None:
        self.node.configure("slow", max_instances=1, queue_limit=1)
        replies = self.flood(6, count=500)
        served = [reply for reply in replies if reply.status == 200]
        refused = [reply for reply in replies if reply.status == 429]
        self.assertEqual(len(served) + len(refused), 6, [reply.status for reply in replies])
        self.assertGreaterEqual(len(served), 2)
        self.assertTrue(refused)
        for reply in refused:
            self.assertRefused(reply, 429, "queue_full")
            self.assertGreaterEqual(int(reply.headers["Retry-After"]), 1)

    def test_a_hopeless_deadline_is_answered_before_it_passes(self) -> None:
        self.node.configure("slow", max_instances=1, queue_limit=100)
        replies = self.flood(8, count=500, parameters={"timeout": 1_000_000})
        late = [reply for reply in replies if reply.status != 200]
        self.assertTrue(late)
        for reply in late:
            self.assertIn(reply.status, (503, 504))
            self.assertIn(reply.reason, ("hopeless_deadline", "deadline_exceeded"))

    def test_a_flood_of_one_function_does_not_starve_another(self) -> None:
        self.node.configure("slow", max_instances=0, queue_limit=1000)
        self.assertServed(self.node.infer("f", ONE))
        ended = threading.Event()
        flooded: list[float] = []

        def ask(name: str, given: dict) -> float:
            begin = time.monotonic()
            self.assertServed(self.node.infer(name, given))
            return time.monotonic() - begin

        def flood() -> None:
            while not ended.is_set():
                flooded.append(ask("slow", tensor("count", "INT64", [1], [300])))

        with ThreadPoolExecutor(16) as pool:
            floods = [pool.submit(flood) for _ in range(16)]
            self.node.wait_until(lambda: len(flooded) >= 16, "the flood is under way")
            trickle = [ask("f", ONE) for _ in range(9)]
            ended.set()
            for client in floods:
                client.result()
        # In one queue both would wait for all 16 clients; here only for the runs under way.
        self.assertLess(statistics.median(trickle), statistics.median(flooded) / 2)

    def test_a_versions_own_timeout_counts(self) -> None:
        self.node.deploy("hasty", variant(self.folder, "slow", 'timeout = "500ms"'))
        self.assertRefused(
            self.node.infer("hasty", tensor("count", "INT64", [1], [1_000_000])),
            504,
            "deadline_exceeded",
        )

    def flood(self, clients: int, *, count: int, **rest) -> list[Reply]:
        body = json.dumps({"inputs": [tensor("count", "INT64", [1], [count])], **rest}).encode()
        with ThreadPoolExecutor(clients) as pool:
            return list(
                pool.map(
                    lambda _: self.node.request("POST", "/v2/models/slow/infer", body),
                    range(clients),
                )
            )
