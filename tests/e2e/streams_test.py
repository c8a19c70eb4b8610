"""Functions that are generators: chunks on their way while the function runs, and what ends a stream."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import tritonclient.grpc as triton
from node import BIN, wait_until
from python_test import PythonCase, numpy_wheels, text_of
from tritonclient.utils import InferenceServerException

SSE = "text/event-stream"

# Instances of a version share /tmp: one request can wait for what another one does.
GATE = """
import os, time
def wait_for(name):
    while not os.path.exists("/tmp/" + name):
        time.sleep(0.005)
def predict(inputs, state, ctx):
    if "open" in inputs:
        open("/tmp/" + inputs["open"], "w").close()
        yield "opened"
        return
    if "meet" in inputs:
        open("/tmp/" + inputs["meet"][0], "w").close()
        yield "here"
        wait_for(inputs["meet"][1])
        yield "met"
        return
    yield {"chunk": 1}
    wait_for(inputs["gate"])
    yield {"chunk": 2}
"""

MANNERED = """
import time
def predict(inputs, state, ctx):
    try:
        yield "begun"
        if inputs.get("spin"):
            while True:
                pass
        while True:
            yield "x" * inputs.get("size", 1)
            time.sleep(inputs.get("pause", 0))
    finally:
        print("tidied up")
"""


class Events:
    """The server-sent events of a reply, as they come."""

    def __init__(self, response) -> None:
        self.response = response
        self.status, self.headers = response.status, response.headers

    def next(self):
        """("message" or another kind, its JSON); None at the end of the reply."""
        kind, data = "message", None
        while line := self.response.readline():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                kind = value
            elif field == "data":
                data = json.loads(value)
            elif not field:
                return kind, data
        return None

    def rest(self) -> list:
        found = []
        while (event := self.next()) is not None:
            found.append(event)
        return found


class StreamsTestParts(PythonCase):
    @contextmanager
    def stream(self, name: str, value, path: str = "/functions/{}", headers: dict | None = None):
        connection = self.node.connect()
        try:
            body = json.dumps(value).encode()
            connection.request(
                "POST", path.format(name), body, {"Content-Type": "application/json", **(headers or {})}
            )
            yield Events(connection.getresponse())
        finally:
            connection.close()

    def chunks(self, name: str, value, path: str = "/functions/{}") -> list:
        with self.stream(name, value, path) as events:
            self.assertEqual((events.status, events.headers["Content-Type"]), (200, SSE))
            return events.rest()

    def requests_with(self, name: str, reason: str) -> float:
        text = self.node.request("GET", "/metrics").body.decode()
        lines = (
            line
            for line in text.splitlines()
            if line.startswith("mayfly_requests_total")
            and f'function="{name}"' in line
            and f'reason="{reason}"' in line
        )
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class StreamsTest(StreamsTestParts):
    def test_a_chunk_is_sent_before_the_next_one_exists(self) -> None:
        self.deploy("gate", GATE)
        with self.stream("gate", {"gate": "g"}) as events:
            self.assertEqual((events.status, events.headers["Content-Type"]), (200, SSE))
            self.assertEqual(events.headers["Mayfly-Start"], "cold")
            self.assertRegex(events.headers["Server-Timing"], r"first;dur=\d")
            self.assertEqual(events.next(), ("message", {"chunk": 1}))
            self.assertEqual(self.chunks("gate", {"open": "g"}), [("message", "opened")])
            self.assertEqual(events.rest(), [("message", {"chunk": 2})])
        self.assertTrue(self.node.cli_json("describe", "gate")["streams"])
        metrics = self.node.request("GET", "/metrics").body.decode()
        self.assertRegex(metrics, r'mayfly_time_to_first_chunk_seconds_count\{.*gate.*\} 2')
        self.assertEqual(self.requests_with("gate", ""), 2)

    def test_two_streams_run_at_once_on_two_instances(self) -> None:
        self.deploy("pair", GATE)
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda names: self.chunks("pair", {"meet": names}),
                                 [["a", "b"], ["b", "a"]]))
        self.assertEqual(both, [[("message", "here"), ("message", "met")]] * 2)

    def test_an_error_before_the_first_chunk_is_an_error_like_any_other(self) -> None:
        self.deploy("early", "def predict(inputs, state, ctx):\n    yield inputs['x']\n    yield 2\n")
        self.assertRefused(self.call("early", {}), 500, "function_error", "KeyError")
        self.assertRefused(self.call("early", b"{"), 400, "invalid_input")
        self.assertEqual(self.chunks("early", {"x": [1]}), [("message", [1]), ("message", 2)])

    def test_an_error_after_the_first_chunk_ends_the_stream_with_its_words(self) -> None:
        self.deploy(
            "late",
            """
            def predict(inputs, state, ctx):
                yield 1
                if inputs["how"] == "raise":
                    raise ValueError("no more")
                if inputs["how"] == "bytes":
                    yield b"raw"
                if inputs["how"] == "die":
                    import os
                    os._exit(3)
                if inputs["how"] == "large":
                    yield "x" * (80 << 20)
            """,
        )
        for how, reason, words in [
            ("raise", "function_error", "ValueError: no more"),
            ("bytes", "function_error", "no form in JSON"),
            ("die", "instance_crashed", "exited with code 3"),
            ("large", "too_large", "max_reply"),
        ]:
            with self.subTest(how):
                first, last = self.chunks("late", {"how": how})
                self.assertEqual(first, ("message", 1))
                self.assertEqual((last[0], last[1]["reason"]), ("error", reason))
                self.assertIn(words, last[1]["error"])
                self.assertGreater(self.requests_with("late", reason), 0)
        self.assertIn("ValueError: no more", self.logs("late"))
        self.assertEqual(self.chunks("late", {"how": "end"}), [("message", 1)])

    def test_the_timeout_holds_for_the_whole_stream(self) -> None:
        self.deploy("slow", MANNERED, {"mayfly.toml": 'timeout = "1s"\n'})
        begun = time.monotonic()
        *chunks, last = self.chunks("slow", {"pause": 0.05})
        self.assertLess(time.monotonic() - begun, 20)
        self.assertGreater(len(chunks), 1)
        self.assertEqual((last[0], last[1]["reason"]), ("error", "deadline_exceeded"))

    def test_a_client_that_leaves_ends_the_work_and_the_function_tidies_up(self) -> None:
        self.deploy("left", MANNERED)
        with self.stream("left", {"pause": 0.01}) as events:
            self.assertEqual(events.next(), ("message", "begun"))
            events.next()
        wait_until(lambda: "tidied up" in self.logs("left"), "the function's finally block")
        wait_until(lambda: self.requests_with("left", "client_gone") == 1, "the record")
        # The instance lives on.
        with self.stream("left", {"pause": 0.01}) as events:
            self.assertEqual(events.headers["Mayfly-Start"], "hot")

    def test_a_function_that_does_not_stop_is_stopped(self) -> None:
        self.deploy("spin", MANNERED)
        with self.stream("spin", {"spin": True}) as events:
            self.assertEqual(events.next(), ("message", "begun"))
            (instance,) = self.node.instances()[-1:]
        wait_until(lambda: self.requests_with("spin", "client_gone") == 1, "the record")
        wait_until(lambda: instance not in self.node.instances(), "the end of the instance")

    def test_a_slow_reader_makes_the_function_wait_without_a_core(self) -> None:
        self.deploy(
            "flood",
            """
            def predict(inputs, state, ctx):
                if "count" in inputs:
                    with open("/tmp/count") as file:
                        yield int(file.read() or 0)
                    return
                for i in range(100):
                    with open("/tmp/count", "w") as file:
                        file.write(str(i))
                    yield str(i % 10) * (1 << 20)
            """,
        )

        def count() -> int:
            return self.chunks("flood", {"count": True})[0][1]

        def settled() -> int:
            seen = [count()]
            while len(seen) < 5 or len(set(seen[-5:])) > 1:
                time.sleep(0.1)
                seen.append(count())
            return seen[-1]

        with self.stream("flood", {}) as one, self.stream("flood", {}) as two:
            first = one.next()
            two.next()
            # As much as the sockets take, and no more; the node's cores are others' meanwhile.
            self.assertLess(settled(), 40)
            rest = one.rest()
            self.assertEqual(len(rest), 99)
            self.assertEqual([first[1][0], rest[-1][1][0]], ["0", "9"])
            self.assertTrue(all(len(chunk) == 1 << 20 for _, chunk in rest))

    def test_every_stream_has_an_instance_of_its_own_with_isolation_request(self) -> None:
        self.deploy(
            "alone",
            """
            seen = []
            def predict(inputs, state, ctx):
                seen.append(1)
                for i in range(inputs["n"]):
                    yield len(seen)
            """,
            None,
            "--set",
            "isolation=request",
        )
        for n in (3, 0, 2):
            self.assertEqual(self.chunks("alone", {"n": n}), [("message", 1)] * n)

    def test_who_asks_for_json_or_for_later_gets_an_array(self) -> None:
        self.deploy("list", "def predict(inputs, state, ctx):\n    yield from inputs\n")
        reply = self.call("list", [1, {"a": None}, "x"], headers={"Accept": "application/json"})
        self.assertServed(reply)
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        self.assertEqual(reply.json(), [1, {"a": None}, "x"])
        none = self.call("list", [], headers={"Accept": "application/json"})
        self.assertEqual(none.json(), [])
        event = self.call("list", [1, 2], headers={"Prefer": "respond-async"})
        self.assertEqual(event.status, 202)
        result = event.headers["Location"]
        wait_until(lambda: self.node.request("GET", result).status != 202, "the event")
        self.assertEqual(self.node.request("GET", result).json(), [1, 2])

    def test_the_generate_extension(self) -> None:
        self.deploy(
            "llm",
            """
            def predict(inputs, state, ctx):
                for word in inputs["text_input"].split():
                    yield {"text_output": word * inputs.get("parameters", {}).get("times", 1)}
            """,
        )
        path = "/v2/models/{}/generate_stream"
        names = {"model_name": "llm", "model_version": "1"}
        value = {"text_input": "may fly", "parameters": {"times": 2}}
        self.assertEqual(
            self.chunks("llm", value, path),
            [("message", {**names, "text_output": word}) for word in ("maymay", "flyfly")],
        )
        one = self.node.post_json("/v2/models/llm/versions/1/generate", {"text_input": "may"})
        self.assertServed(one)
        self.assertEqual(one.json(), {**names, "text_output": "may"})
        many = self.node.post_json("/v2/models/llm/generate", value)
        self.assertRefused(many, 501, "unsupported", "generate_stream")
        infer = self.node.infer("llm", {"name": "body", "datatype": "BYTES", "shape": [1], "data": ["{}"]})
        self.assertRefused(infer, 501, "unsupported", "/functions/llm")

    def test_chunks_of_arrays(self) -> None:
        self.deploy(
            "arrays",
            """
            def predict(inputs: {"x": "FP32[-1]"}, state, ctx) -> {"y": "FP32[-1]"}:
                for factor in (1, 2):
                    yield {"y": inputs["x"] * factor}
                if len(inputs["x"]) > 2:
                    yield {"z": 1}
            """,
            {"requirements.txt": "numpy\n", **{f"wheels/{w.name}": w.read_bytes() for w in numpy_wheels()},
             "example.json": '{"x": [1, 2]}'},
        )
        self.assertEqual(
            self.chunks("arrays", {"x": [1, 2]}),
            [("message", {"y": [1.0, 2.0]}), ("message", {"y": [2.0, 4.0]})],
        )
        last = self.chunks("arrays", {"x": [1, 2, 3]})[-1]
        self.assertIn("yielded 'z'", last[1]["error"])
        generated = self.chunks(
            "arrays", {"id": "7", "x": [1], "parameters": {"temperature": 0.5}}, "/v2/models/{}/generate_stream"
        )
        self.assertEqual(
            generated[0], ("message", {"model_name": "arrays", "model_version": "1", "y": [1.0]})
        )

    def test_the_command_line_prints_chunks_as_they_come(self) -> None:
        self.deploy("printed", GATE)
        command = [str(BIN / "mayfly"), "invoke", "printed", "-d", '{"gate": "printed"}']
        environment = {**os.environ, "MAYFLY_URL": self.node.url}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            self.assertEqual(process.stdout.readline(), '{"chunk":1}\n')
            self.chunks("printed", {"open": "printed"})
            self.assertEqual(process.stdout.read(), '{"chunk":2}\n')
        self.assertEqual(process.returncode, 0)
        self.deploy("broken", "def predict(inputs, state, ctx):\n    yield 1\n    1 / 0\n")
        broken = self.node.cli("invoke", "broken", "-d", "{}", check=False)
        self.assertEqual(text_of(broken.stdout), "1\n")
        self.assertIn("ZeroDivisionError", text_of(broken.stderr))
        self.assertNotEqual(broken.returncode, 0)

    def test_grpc_refuses_and_says_where_to_ask(self) -> None:
        self.deploy("elsewhere", "def predict(inputs, state, ctx):\n    yield 1\n")
        body = triton.InferInput("body", [1], "BYTES")
        body.set_data_from_numpy(np.array([b"{}"], dtype=object))
        kind = triton.InferInput("content_type", [1], "BYTES")
        kind.set_data_from_numpy(np.array([b""], dtype=object))
        with triton.InferenceServerClient(self.node.grpc) as client:
            with self.assertRaises(InferenceServerException) as refused:
                client.infer("elsewhere", [body, kind])
        self.assertIn("UNIMPLEMENTED", refused.exception.status())
        self.assertIn("ModelStreamInfer", refused.exception.message())

    def test_what_does_not_go_with_streams_is_refused_at_deploy(self) -> None:
        code = "def predict(inputs, state, ctx):\n    yield 1\n"
        error = self.refuse("cached", code, {"mayfly.toml": "cache = true\n"})
        self.assertIn("predict is a generator", error)
        self.assertIn("cache", error)
        asynchronous = "async def predict(inputs, state, ctx):\n    yield 1\n"
        self.assertIn("async", self.refuse("asynchronous", asynchronous))

    def test_a_stream_without_an_end_is_deployed_with_an_example(self) -> None:
        self.deploy("endless", MANNERED, {"example.json": "{}"})
        with self.stream("endless", {}) as events:
            self.assertEqual(events.next(), ("message", "begun"))


class GrpcStreamsTest(StreamsTestParts):
    """Triton's client, as it asks decoupled models: several responses to a request."""

    def setUp(self) -> None:
        super().setUp()
        self.client = triton.InferenceServerClient(self.node.grpc)
        self.addCleanup(self.client.close)
        self.answers: queue.Queue = queue.Queue()
        self.client.start_stream(lambda result, error: self.answers.put((result, error)))

    def ask(self, name: str, value, request: str = "", **more) -> None:
        inputs = [triton.InferInput("body", [1], "BYTES"), triton.InferInput("content_type", [1], "BYTES")]
        for tensor, data in zip(inputs, (json.dumps(value).encode(), b"application/json")):
            tensor.set_data_from_numpy(np.array([data], dtype=object))
        self.client.async_stream_infer(name, inputs, request_id=request, **more)

    def next(self):
        """(id, JSON or None, whether it is the last one or None)"""
        result, error = self.answers.get(timeout=60)
        self.assertIsNone(error)
        response = result.get_response()
        last = response.parameters["triton_final_response"].bool_param if response.parameters else None
        body = result.as_numpy("body")
        return response.id, None if body is None else json.loads(body[0]), last

    def test_each_chunk_is_a_response_and_an_empty_one_is_the_end(self) -> None:
        self.deploy("count", "def predict(inputs, state, ctx):\n    for i in range(inputs['n']):\n        yield {'i': i}\n")
        self.ask("count", {"n": 3}, "first", enable_empty_final_response=True)
        self.ask("count", {"n": 2}, "second")
        self.ask("count", {"n": 0}, "third", enable_empty_final_response=True)
        self.assertEqual(
            [self.next() for _ in range(7)],
            [("first", {"i": i}, False) for i in range(3)] + [("first", None, True)]
            + [("second", {"i": i}, False) for i in range(2)] + [("third", None, True)],
        )
        wait_until(lambda: self.requests_with("count", "") == 3, "the records")
        self.assertEqual(self.node.usage("count")["requests"], 3)

    def test_a_chunk_is_sent_before_the_next_one_exists(self) -> None:
        self.deploy("gate", GATE)
        self.ask("gate", {"gate": "g"})
        self.assertEqual(self.next()[1], {"chunk": 1})
        self.assertTrue(self.answers.empty())
        self.call("gate", {"open": "g"})
        self.assertEqual(self.next()[1], {"chunk": 2})

    def test_an_error_on_the_way_ends_its_request_and_not_the_stream(self) -> None:
        self.deploy("broken", "def predict(inputs, state, ctx):\n    yield 1\n    1 / inputs['by']\n    yield 2\n")
        self.ask("broken", {"by": 0}, "bad")
        self.ask("broken", {"by": 1}, "good")
        self.assertEqual(self.next()[:2], ("bad", 1))
        _, error = self.answers.get(timeout=60)
        self.assertIn("ZeroDivisionError", str(error))
        self.assertEqual([self.next()[:2] for _ in range(2)], [("good", 1), ("good", 2)])
        wait_until(lambda: self.requests_with("broken", "function_error") == 1, "the record")

    def test_the_answer_of_a_function_that_does_not_stream_says_that_it_is_the_last(self) -> None:
        self.deploy("plain", "def predict(inputs, state, ctx):\n    return inputs\n")
        self.ask("plain", 7, "asked", enable_empty_final_response=True)
        self.ask("plain", 8, "not")
        self.assertEqual([self.next(), self.next()], [("asked", 7, True), ("not", 8, None)])

    def test_a_client_that_cancels_ends_the_work_and_the_function_tidies_up(self) -> None:
        self.deploy("left", MANNERED)
        self.ask("left", {"pause": 0.01})
        self.assertEqual(self.next()[1], "begun")
        self.client.stop_stream(cancel_requests=True)
        wait_until(lambda: "tidied up" in self.logs("left"), "the function's finally block")
        wait_until(lambda: self.requests_with("left", "client_gone") == 1, "the record")

    def test_a_client_that_does_not_read_makes_the_function_wait(self) -> None:
        self.deploy("flood", """
            def predict(inputs, state, ctx):
                if "count" in inputs:
                    with open("/tmp/count", "a+") as file:  # it may not be there yet
                        file.seek(0)
                        yield int(file.read() or 0)
                    return
                for i in range(200):
                    with open("/tmp/count", "w") as file:
                        file.write(str(i))
                    yield "x" * (1 << 20)
            """)
        held = threading.Event()
        client = triton.InferenceServerClient(self.node.grpc)
        self.addCleanup(client.close)
        self.addCleanup(held.set)
        # The client's own reader is held, and with it the window of its connection.
        client.start_stream(lambda result, error: held.wait())
        self.client, mine = client, self.client
        self.ask("flood", {})
        self.client = mine

        def count() -> int:
            return self.call("flood", {"count": True}, headers={"Accept": "application/json"}).json()[0]

        wait_until(lambda: count() > 0, "it begins")
        seen = [count()]
        while len(seen) < 5 or len(set(seen[-5:])) > 1:
            time.sleep(0.1)
            seen.append(count())
        self.assertLess(seen[-1], 150)
        held.set()
        wait_until(lambda: count() == 199, "it goes on", 60)
