"""Functions without types, which take JSON or bytes, with each client."""

from __future__ import annotations

import json
import unittest

import numpy as np
import pandas
from scripted import Scripted, chunked, reply
from sdk_case import BothClients, PythonNode

import mayfly

ECHO = """
    def predict(inputs, state, ctx):
        made = inputs.get("made") if isinstance(inputs, dict) else None
        if made == "picture":
            return b"\\x89PNG", "image/png"
        if made == "bytes":
            return b"\\xff\\x00"
        if isinstance(inputs, dict) and isinstance(inputs.get("body"), bytes):
            return {"size": len(inputs["body"]), "type": ctx.content_type}
        return inputs
"""
STREAMS = """
    def predict(inputs, state, ctx):
        yield 1
        yield {"a": 2}
"""
DATA = [{"amount": 250, "foreign": True}, [1, [2.5]], "a text", 7, None, {}, []]
BYTES = [
    (b"\xff", {}, "application/octet-stream"),
    (b"\xff", {"content_type": "image/png"}, "image/png"),
    ({"body": b"\xff"}, {}, "application/octet-stream"),
    ({"body": b"\xff", "content_type": "text/plain"}, {}, "text/plain"),
]


class DocumentCases:
    code = {"echo": ECHO, "streams": STREAMS}

    def ask(self, *questions, **rest):
        """What `call` answers each, and what comes of `call_async`; of the function echo."""
        yield [self.mayfly.call("echo", given, **rest, **own) for given, own in questions]
        events = [
            self.mayfly.call_async("echo", given, **rest, **own) for given, own in questions
        ]
        yield [self.mayfly.result(event) for event in events]

    def test_json_goes_and_what_it_says_comes(self) -> None:
        arrays = {"a": np.arange(2), "b": np.float32(1.5), "c": (True, None)}
        said = [*DATA, {"a": [0, 1], "b": 1.5, "c": [True, None]}]
        for answers in self.ask(*((given, {}) for given in (*DATA, arrays))):
            self.assertEqual(json.dumps(answers), json.dumps(said))
        self.assertEqual(self.mayfly.call("echo@1", {"body": "a letter"}), {"body": "a letter"})

    def test_an_object_says_how_it_came_to_be(self) -> None:
        for (found,) in self.ask(({"a": 1}, {}), request_id="my-request", key="user-7"):
            self.assertIsInstance(found, mayfly.Prediction)
            self.assertEqual((found.version, found.request_id), (1, "my-request"))
            self.assertGreater(found.run_ms, 0)

    def test_bytes_go_with_their_type(self) -> None:
        picture = self.place() / "x.png"
        picture.write_bytes(b"p")
        questions = [(given, rest) for given, rest, _ in BYTES]
        said = [{"size": 1, "type": kind} for _, _, kind in BYTES]
        text = (b'{"a": [1]}', {"content_type": "application/json"})
        for answers in self.ask(*questions, (picture, {}), text):
            self.assertEqual(answers, [*said, {"size": 1, "type": "image/png"}, {"a": [1]}])

    def test_another_content_type_comes_as_bytes(self) -> None:
        for answers in self.ask(({"made": "picture"}, {}), ({"made": "bytes"}, {})):
            self.assertEqual(answers, [b"\x89PNG", b"\xff\x00"])

    def test_what_json_cannot_say_is_refused_here(self) -> None:
        frame = pandas.DataFrame({"a": [1]})
        for call in (self.mayfly.call, self.mayfly.call_async):
            for given, rest, text in (
                ({"a": np.nan}, {}, "cannot be sent as JSON"),
                ({"a": object()}, {}, "object has no form in JSON"),
                (frame, {}, "DataFrame"),
                ({}, {"outputs": ["a"]}, "outputs="),
                ({}, {"priority": 1}, "priority="),
            ):
                self.assertFails(mayfly.InvalidArgument, call, "echo", given, text=text, **rest)
        error = self.assertFails(
            mayfly.InvalidRequest,
            self.mayfly.call,
            "echo",
            b"{",
            content_type="application/json",
            text="no JSON",
        )
        self.assertIn("content_type=", error.hint)

    def test_a_function_that_streams_is_for_stream(self) -> None:
        for given, rest in (({}, {}), (b"{}", {"content_type": "application/json"})):
            error = self.assertFails(
                mayfly.BadReply, self.mayfly.call, "streams", given, text="streams its replies", **rest
            )
            self.assertIn("stream('streams', …)", error.hint)
        event = self.mayfly.call_async("streams", {})
        self.assertEqual(self.mayfly.result(event), [1, {"a": 2}])


class DocumentTest(DocumentCases, PythonNode):
    pass


class AsyncDocumentTest(DocumentCases, PythonNode):
    asynchronous = True


def metadata(*inputs: str) -> bytes:
    specs = [{"name": name, "datatype": "BYTES", "shape": [1]} for name in inputs]
    return reply(200, json.dumps({"inputs": specs, "outputs": specs}).encode())


DOCUMENTS, ARRAYS = metadata("body", "content_type"), metadata("x")
JSON = {"Content_Type": "application/json"}


class ScriptedCases(BothClients):
    def test_json_is_posted_to_the_function(self) -> None:
        with Scripted([DOCUMENTS, reply(200, b'{"b":2}', **JSON)]) as server:
            found = self.client(server.url).call("f@2", {"a": 1}, key="k", request_id="r")
            self.assertEqual(found, {"b": 2})
            heard = server.heard[1]
            self.assertEqual((heard.method, heard.target), ("POST", "/functions/f@2"))
            self.assertEqual((json.loads(heard.body), heard.headers["mayfly-key"]), ({"a": 1}, "k"))
            self.assertEqual(heard.headers["content-type"], "application/json")

    def test_what_took_tensors_may_take_json_now(self) -> None:
        refused = reply(400, b'{"error":"no input x","reason":"invalid_input"}', **JSON)
        tensors = reply(200, b'{"outputs": []}', **JSON)
        answers = [ARRAYS, tensors, refused, DOCUMENTS, reply(200, b"[1]", **JSON)]
        with Scripted(answers) as server:
            client = self.client(server.url)
            self.assertEqual(client.call("f", {"x": ["a"]}), {})
            self.assertEqual(client.call("f", {"x": ["a"]}), [1])
            self.assertEqual(server.heard[-1].target, "/functions/f")

    def test_a_stream_is_not_read(self) -> None:
        for status, kind in ((200, "text/event-stream"), (200, "text/event-stream; charset=utf-8")):
            head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\n".encode()
            endless = head + b"Transfer-Encoding: chunked\r\n\r\n1\r\nd\r\n"
            with Scripted([DOCUMENTS, endless]) as server:
                client = self.client(server.url, timeout=20, retries=0)
                self.assertFails(mayfly.BadReply, client.call, "f", {}, text="stream('f', …)")

    def test_an_answer_that_says_json_and_is_none_is_bad(self) -> None:
        for answer in (reply(200, b"{", **JSON), reply(200, b"\xff", **JSON)):
            with Scripted([DOCUMENTS, answer]) as server:
                self.assertFails(mayfly.BadReply, self.client(server.url).call, "f", {})
        with Scripted([DOCUMENTS, chunked(b"{", end=False)]) as server:
            client = self.client(server.url, timeout=1, retries=0)
            self.assertFails(mayfly.MayflyError, client.call, "f", {})

    def test_a_result_that_looks_like_the_protocols_is_the_functions_own(self) -> None:
        told = b'{"model_name": "gpt", "outputs": ["a", "b"]}'
        state = json.dumps(
            {
                "id": "e-1",
                "function": "f",
                "state": "done",
                "attempts": 1,
                "max_attempts": 4,
                "accepted": "2026-01-31T08:00:00Z",
                "expires": "2026-02-01T08:00:00Z",
            }
        ).encode()
        with Scripted([reply(200, told, **JSON), reply(200, state), DOCUMENTS]) as server:
            self.assertEqual(self.client(server.url).result("e-1"), json.loads(told))

    def test_a_conflict_has_the_hint_of_what_was_asked(self) -> None:
        conflict = reply(409, b'{"error":"it is taken","reason":"conflict"}', **JSON)
        with Scripted([conflict, conflict, conflict, DOCUMENTS, conflict]) as server:
            client = self.client(server.url)
            self.assertFails(mayfly.Conflict, client.traffic, "f", {1: 100}, text="traffic(name)")
            self.assertFails(mayfly.Conflict, client.alias, "f", "a", 1, text="traffic(name)")
            error = self.assertFails(mayfly.Conflict, client.rollback, "f")
            self.assertEqual(error.hint, "")
            self.assertFails(mayfly.Conflict, client.call_async, "f", {}, text="idempotency_key")

    def test_a_typed_function_that_streams_is_for_stream(self) -> None:
        refused = reply(501, b'{"error":"it streams","reason":"unsupported"}', **JSON)
        with Scripted([ARRAYS, refused]) as server:
            client = self.client(server.url)
            self.assertFails(mayfly.Unsupported, client.call, "f", "a", text="stream('f', …)")


class ScriptedTest(ScriptedCases, unittest.TestCase):
    pass


class AsyncScriptedTest(ScriptedCases, unittest.TestCase):
    asynchronous = True


if __name__ == "__main__":
    unittest.main()
