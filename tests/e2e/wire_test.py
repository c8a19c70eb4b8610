"""The protocol byte by byte: status codes, malformed requests, exact numbers, headers."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import zlib

from case import NodeCase
from node import MODELS, tensor

ONE = tensor("x", "FP32", [1], [1])


class WireTest(NodeCase):
    functions = {
        "identity_fp32": "identity_fp32",
        "identity_fp64": "identity_fp64",
        "identity_int64": "identity_int64",
        "identity_uint64": "identity_uint64",
        "identity_fp16": "identity_fp16",
        "identity_bytes": "identity_bytes",
        "identity_bool": "identity_bool",
        "adder": "adder",
        "gather": "gather",
        "multi_rank": "multi_rank",
    }

    def test_paths_and_methods(self) -> None:
        cases = (
            ("GET", "/v2", 200),
            ("GET", "/v2/health/live", 200),
            ("GET", "/v2/health/ready", 200),
            ("GET", "/v2/models/adder", 200),
            ("GET", "/v2/models/adder/ready", 200),
            ("GET", "/v2/models/adder/versions/1", 200),
            ("GET", "/v2/models/adder/versions/1/ready", 200),
            ("GET", "/v2/models/adder@1", 200),
            ("GET", "/v2/models/nothing", 404),
            ("GET", "/v2/models/adder/versions/7", 404),
            ("GET", "/v2/models/adder@7", 404),
            ("GET", "/v2/nowhere", 404),
            ("GET", "/", 404),
            ("POST", "/v2", 405),
            ("POST", "/v2/health/live", 405),
            ("GET", "/v2/models/adder/infer", 405),
            ("DELETE", "/v2/models/adder", 405),
            ("POST", "/v2/models/nothing/infer", 404),
            ("POST", "/functions/nothing", 404),
            ("GET", "/functions/adder", 405),
        )
        for method, path, status in cases:
            with self.subTest(f"{method} {path}"):
                reply = self.node.request(method, path, b"{}" if method == "POST" else None)
                self.assertEqual(reply.status, status, reply.body)
                if status != 200:
                    self.assertTrue(reply.json()["error"])
                    self.assertTrue(reply.json()["reason"])

    def test_an_unknown_model_is_reported_in_the_words_clients_know(self) -> None:
        self.assertRefused(
            self.node.infer("x", ONE), 404, "unknown_function", "unknown model: 'x' is not found"
        )

    def test_reply_headers(self) -> None:
        reply = self.node.request(
            "POST",
            "/v2/models/identity_fp32/infer",
            json.dumps({"inputs": [ONE]}),
            {"X-Request-Id": "mine-1"},
        )
        self.assertServed(reply)
        self.assertRegex(
            reply.headers["Mayfly-Invocation"],
            r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f-]{17}$",
        )
        self.assertIn(reply.tier, ("hot", "template", "cold"))
        self.assertEqual(reply.headers["Mayfly-Version"], "1")
        for part in ("queue", "start", "run"):
            self.assertRegex(reply.headers["Server-Timing"], rf"\b{part};dur=[0-9.]+")
        self.assertEqual(reply.headers["X-Request-Id"], "mine-1")

    def test_invocation_ids_are_ordered_and_request_ids_are_made_when_absent_or_unfit(self) -> None:
        ids = []
        for request_id in (None, "a" * 129, "two words"):
            reply = self.node.request(
                "POST",
                "/v2/models/identity_fp32/infer",
                json.dumps({"inputs": [ONE]}),
                {"X-Request-Id": request_id} if request_id else {},
            )
            self.assertServed(reply)
            ids.append(reply.headers["Mayfly-Invocation"])
            self.assertRegex(reply.headers["X-Request-Id"], r"^[!-~]{1,128}$")
            self.assertNotEqual(reply.headers["X-Request-Id"], request_id)
        self.assertEqual(ids, sorted(set(ids)))

    def test_whole_numbers_survive_json_exactly(self) -> None:
        for name, numbers in (
            ("identity_int64", [-(2**63), 2**53 + 1, 2**63 - 1]),
            ("identity_uint64", [0, 2**64 - 1]),
        ):
            reply = self.node.infer(name, tensor("x", name[9:].upper(), [len(numbers)], numbers))
            self.assertEqual(reply.output("y"), numbers)

    def test_numbers_out_of_range_are_refused(self) -> None:
        for name, number in (
            ("identity_int64", 2**63),
            ("identity_uint64", -1),
            ("identity_int64", 1.5),
        ):
            self.assertRefused(
                self.node.infer(name, tensor("x", name[9:].upper(), [1], [number])), 400
            )

    def test_floats_make_the_shortest_round_trip(self) -> None:
        reply = self.node.infer("identity_fp32", tensor("x", "FP32", [3], [0.1, 16777216, 1e-45]))
        self.assertEqual(reply.output("y"), [0.1, 16777216, 1e-45])
        self.assertIn(b"0.1", reply.body)
        self.assertNotIn(b"0.10000000149", reply.body)
        reply = self.node.infer("identity_fp64", tensor("x", "FP64", [2], [0.1, 5e-324]))
        self.assertEqual(reply.output("y"), [0.1, 5e-324])

    def test_infinities_and_nan_travel_as_python_reads_them(self) -> None:
        reply = self.node.infer(
            "identity_fp32", tensor("x", "FP32", [3], [float("inf"), float("-inf"), float("nan")])
        )
        self.assertServed(reply)
        self.assertRegex(reply.body.decode(), r"\[\s*Infinity\s*,\s*-Infinity\s*,\s*NaN\s*\]")

    def test_nested_and_flat_data_are_the_same(self) -> None:
        for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]):
            reply = self.node.infer(
                "multi_rank",
                tensor("scalar", "FP32", [], [0]),
                tensor("vector", "FP32", [1], [0]),
                tensor("matrix", "FP32", [2, 3], data),
                tensor("cube", "FP32", [1, 1, 1], [[[0]]]),
            )
            self.assertEqual(reply.output("matrix_out"), [1, 2, 3, 4, 5, 6])
        nested_otherwise = tensor("x", "FP32", [3], [[1], [2], [3]])
        self.assertRefused(self.node.infer("identity_fp32", nested_otherwise), 400)

    def test_inputs_that_do_not_fit_are_refused(self) -> None:
        big = 2**62
        cases = (
            ("adder", [tensor("a", "FP32", [1], [1])], "b"),
            ("identity_fp32", [tensor("x", "FP32", [2], [1])], "x"),
            ("identity_fp32", [tensor("x", "FP32", [1], [1, 2])], "x"),
            ("identity_fp32", [tensor("x", "FP32", [1, 1], [1])], "x"),
            ("identity_fp32", [tensor("x", "INT32", [1], [1])], "x"),
            ("identity_fp32", [tensor("x", "FP99", [1], [1])], "FP99"),
            ("identity_fp32", [tensor("x", "FP32", [-1], [1])], "x"),
            ("identity_fp32", [tensor("x", "FP32", [big], [1])], "x"),
            ("identity_fp32", [tensor("x", "FP32", [1], ["one"])], "x"),
            ("identity_fp32", [ONE, ONE], "x"),
            ("identity_fp32", [ONE, tensor("z", "FP32", [1], [1])], "z"),
            ("identity_bool", [tensor("x", "BOOL", [1], [2])], "x"),
            ("identity_fp16", [tensor("x", "FP16", [1], [1])], "binary"),
        )
        for name, inputs, text in cases:
            with self.subTest(name, inputs=inputs):
                self.assertRefused(self.node.infer(name, *inputs), 400, text=text)

    def test_an_unknown_output_is_refused(self) -> None:
        self.assertRefused(
            self.node.infer("identity_fp32", ONE, outputs=[{"name": "z"}]), 400, text="z"
        )

    def test_fp16_cannot_be_replied_in_json(self) -> None:
        head = {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP16",
                    "shape": [1],
                    "parameters": {"binary_data_size": 2},
                }
            ]
        }
        self.assertRefused(self.binary("identity_fp16", head, b"\0\x3c"), 400, text="binary")

    def test_bytes_that_are_not_text_are_refused_in_json(self) -> None:
        content = struct.pack("<I", 2) + b"\xff\xfe"
        head = {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "BYTES",
                    "shape": [1],
                    "parameters": {"binary_data_size": len(content)},
                }
            ]
        }
        self.assertRefused(self.binary("identity_bytes", head, content), 400, text="binary")

    def test_malformed_binary_parts_are_refused(self) -> None:
        def head(datatype: str, size, shape=(1,)) -> dict:
            return {
                "inputs": [
                    {
                        "name": "x",
                        "datatype": datatype,
                        "shape": list(shape),
                        "parameters": {"binary_data_size": size},
                    }
                ]
            }

        cases = (
            ("identity_fp32", head("FP32", 4), b""),
            ("identity_fp32", head("FP32", 4), bytes(3)),
            ("identity_fp32", head("FP32", 4), bytes(5)),
            ("identity_fp32", head("FP32", 8), bytes(8)),
            ("identity_fp32", head("FP32", -4), bytes(4)),
            ("identity_fp32", head("FP32", 2**63), bytes(4)),
            ("identity_fp32", head("FP32", "4"), bytes(4)),
            ("identity_fp32", head("FP32", 4, (2**62, 4)), bytes(4)),
            ("identity_bytes", head("BYTES", 4), b"\xff\xff\xff\xff"),
            ("identity_bytes", head("BYTES", 3), bytes(3)),
            ("identity_bytes", head("BYTES", 8), bytes(8)),
            ("identity_bytes", head("BYTES", 4, (2,)), bytes(4)),
        )
        for name, description, content in cases:
            with self.subTest(name, description=description, content=content):
                self.assertRefused(self.binary(name, description, content), 400)

    def test_a_wrong_header_length_is_refused(self) -> None:
        for length in ("-1", "x", "999999", "18446744073709551616", ""):
            with self.subTest(length):
                reply = self.node.request(
                    "POST",
                    "/v2/models/identity_fp32/infer",
                    json.dumps({"inputs": [ONE]}),
                    {"Inference-Header-Content-Length": length},
                )
                self.assertRefused(reply, 400)

    def test_raw_mode(self) -> None:
        reply = self.node.request(
            "POST",
            "/v2/models/identity_fp32/infer",
            struct.pack("<2f", 1, 2),
            {"Inference-Header-Content-Length": "0"},
        )
        self.assertServed(reply)
        self.assertTrue(reply.body.endswith(struct.pack("<2f", 1, 2)))

    def test_broken_json_is_refused(self) -> None:
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"inputs":{}}',
            b'{"inputs":[{}]}',
            b'{"inputs":[1]}',
            b"\xff",
            b'{"inputs":[]} x',
            b'{"inputs":[' + b"[" * 100_000,
        ):
            with self.subTest(body[:20]):
                reply = self.node.request("POST", "/v2/models/identity_fp32/infer", body)
                self.assertIn(reply.status, (400, 413))
                self.assertTrue(reply.json()["error"])

    def test_chunked_and_compressed_bodies(self) -> None:
        body = json.dumps({"inputs": [ONE]}).encode()
        chunks = [body[:5], body[5:6], body[6:]]
        reply = self.node.request(
            "POST", "/v2/models/identity_fp32/infer", iter(chunks)  # no length: sent in chunks
        )
        self.assertServed(reply)
        for encoding, content in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
            reply = self.node.request(
                "POST", "/v2/models/identity_fp32/infer", content, {"Content-Encoding": encoding}
            )
            self.assertServed(reply)
            broken = self.node.request(
                "POST",
                "/v2/models/identity_fp32/infer",
                content[:-6],
                {"Content-Encoding": encoding},
            )
            self.assertRefused(broken, 400)
        self.assertRefused(
            self.node.request(
                "POST", "/v2/models/identity_fp32/infer", body, {"Content-Encoding": "br"}
            ),
            415,
        )

    def test_expect_100_continue_and_keep_alive(self) -> None:
        body = json.dumps({"inputs": [ONE]}).encode()
        head = f"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", self.node.port), timeout=60) as client:
            client.sendall((head + "Expect: 100-continue\r\n\r\n").encode())
            self.assertTrue(client.recv(1000).startswith(b"HTTP/1.1 100 "))
            client.sendall(body)
            self.assertTrue(client.recv(1000).startswith(b"HTTP/1.1 200 "))
        received = self.node.raw(((head + "\r\n").encode() + body) * 3)
        self.assertEqual(len(re.findall(rb"HTTP/1.1 200 ", received)), 3)

    def test_smuggling_and_garbage_get_400(self) -> None:
        post = "POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        for content in (
            post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            post + "Content-Length: -1\r\n\r\n",
            "\0\1\2\r\n\r\n",
        ):
            with self.subTest(content):
                self.assertTrue(self.node.raw(content.encode()).startswith(b"HTTP/1.1 400 "))

    def test_foreign_hosts_and_origins_are_refused(self) -> None:
        self.assertRefused(
            self.node.request("GET", "/v2", headers={"Host": "evil.example"}), 403, "forbidden_host"
        )
        self.assertRefused(
            self.node.request(
                "GET", "/api/v1/functions", headers={"Origin": "http://evil.example"}
            ),
            403,
            "forbidden_origin",
        )

    def test_a_failing_run_reports_the_models_message(self) -> None:
        self.assertRefused(
            self.node.infer("gather", tensor("index", "INT64", [1], [99])), 400, "model_error", "99"
        )
        self.assertServed(self.node.example("gather"))

    def test_examples_of_the_client_protocol_agree_with_their_expected_reply(self) -> None:
        for name in ("identity_fp32", "identity_int64", "identity_bytes", "adder"):
            reply = self.node.example(name)
            self.assertServed(reply)
            for output in json.loads((MODELS / name / "expected.json").read_text())["outputs"]:
                self.assertEqual(reply.output(output["name"]), output["data"])

    def binary(self, name: str, head: dict, content: bytes):
        text = json.dumps(head).encode()
        return self.node.request(
            "POST",
            f"/v2/models/{name}/infer",
            text + content,
            {"Inference-Header-Content-Length": str(len(text))},
        )
