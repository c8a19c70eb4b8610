"""Functions that stream, with each client."""

from __future__ import annotations

import asyncio
import json
import textwrap
import unittest
from contextlib import closing
from typing import Any, Callable, Iterator

import numpy as np
from node import wait_until
from scripted import Scripted, chunked, reply
from sdk_case import SdkCase

import mayfly

STORY = """
import os, time
def predict(inputs, state, ctx):
    if "open" in inputs:
        open("/tmp/" + inputs["open"], "w").close()
        yield "opened"
        return
    try:
        yield {"word": inputs["words"][0], "left": inputs.get("left")}
        while not os.path.exists("/tmp/" + inputs["gate"]):
            yield "…"
            time.sleep(0.01)
        if inputs.get("fails"):
            raise ValueError("no more words")
        yield inputs["words"][1]
    finally:
        print("the end of " + inputs["gate"])
"""
METADATA = reply(
    200,
    json.dumps(
        {
            "name": "f",
            "inputs": [
                {"name": "body", "datatype": "BYTES", "shape": [1]},
                {"name": "content_type", "datatype": "BYTES", "shape": [1]},
            ],
            "outputs": [],
        }
    ).encode(),
)
TYPED = reply(
    200,
    json.dumps(
        {
            "name": "f",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        }
    ).encode(),
)


def blocking(url: str, *args: Any, **rest: Any) -> Iterator[Any]:
    with mayfly.Client(url) as client:
        yield from client.stream(*args, **rest)


def awaited(url: str, *args: Any, **rest: Any) -> Iterator[Any]:
    loop = asyncio.new_event_loop()
    client = mayfly.AsyncClient(url)
    chunks = client.stream(*args, **rest)
    try:
        while True:
            try:
                yield loop.run_until_complete(chunks.__anext__())
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(chunks.aclose())
        loop.run_until_complete(client.close())
        loop.close()


class StreamTest(SdkCase):
    arguments = ("--index-url", "off")

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = cls.folder / "story"
        folder.mkdir()
        (folder / "function.py").write_text(textwrap.dedent(STORY))
        cls.node.deploy("story", folder)

    def each(self) -> Iterator[Callable[..., Iterator[Any]]]:
        for stream in (blocking, awaited):
            with self.subTest(stream.__name__):
                yield stream

    def test_chunks_come_while_the_function_runs(self) -> None:
        for stream in self.each():
            gate = f"runs-{stream.__name__}"
            given = {"words": ["may", "fly"], "gate": gate, "left": np.arange(2)}
            chunks = stream(self.node.url, "story", given)
            self.assertEqual(next(chunks), {"word": "may", "left": [0, 1]})
            self.assertEqual(list(stream(self.node.url, "story", {"open": gate})), ["opened"])
            self.assertEqual(list(chunks)[-1], "fly")

    def test_who_stops_ends_the_work(self) -> None:
        for stream in self.each():
            gate = f"stops-{stream.__name__}"
            with closing(stream(self.node.url, "story", {"words": ["a"], "gate": gate})) as chunks:
                next(chunks)
            client = mayfly.Client(self.node.url)
            wait_until(
                lambda: any(f"the end of {gate}" in line.text for line in client.logs("story")),
                "the function's finally block",
            )

    def test_errors_are_raised_before_the_first_chunk_and_after_it(self) -> None:
        for stream in self.each():
            gate = f"fails-{stream.__name__}"
            list(stream(self.node.url, "story", {"open": gate}))
            early = stream(self.node.url, "story", {})
            self.assertFails(mayfly.ExecutionFailed, next, early, text="KeyError")
            self.assertFails(mayfly.NotFound, next, stream(self.node.url, "absent", {}))
            late = stream(self.node.url, "story", {"words": ["a"], "gate": gate, "fails": True})
            self.assertEqual(next(late)["word"], "a")
            error = self.assertFails(mayfly.ExecutionFailed, list, late, text="no more words")
            self.assertEqual((error.reason, error.status), ("function_error", 500))
            self.assertIn("function.py", error.traceback[1])  # this node has no keys

    def test_what_is_no_stream_says_so(self) -> None:
        for stream in self.each():
            with Scripted([METADATA, reply(200, b"[1]")]) as server:
                self.assertFails(
                    mayfly.BadReply, next, stream(server.url, "f", {}), text="use call"
                )
            with Scripted([METADATA, chunked(b"data: {\n\n")]) as server:
                self.assertFails(mayfly.BadReply, next, stream(server.url, "f", {}))

    def test_a_stream_that_is_cut_off_is_an_error(self) -> None:
        for stream in self.each():
            cut = lambda heard: chunked(b"data: 1\n\n", end=False) + b""  # noqa: E731
            with Scripted([METADATA, cut, b""]) as server:
                chunks = stream(server.url, "f", {})
                self.assertEqual(next(chunks), 1)
                server.__exit__()
                self.assertFails(mayfly.ConnectionFailed, list, chunks)

    def test_a_status_inside_a_stream_is_its_error(self) -> None:
        told = b'event: error\ndata: {"error":"late","reason":"deadline_exceeded","status":504}\n\n'
        for stream in self.each():
            with Scripted([METADATA, chunked(b"data: 1\n\n", told)]) as server:
                chunks = stream(server.url, "f", {})
                self.assertEqual(next(chunks), 1)
                self.assertFails(mayfly.DeadlineExceeded, next, chunks, text="late")

    def test_typed_functions_take_and_give_arrays(self) -> None:
        for stream in self.each():
            with Scripted([TYPED, chunked(b'data: {"y":[1.5]}\n\n')]) as server:
                (chunk,) = stream(server.url, "f", np.array([1, 2]), key="k", request_id="r")
                self.assertEqual(chunk["y"].dtype, np.float32)
                heard = server.heard[1]
                self.assertEqual(json.loads(heard.body), {"x": [1.0, 2.0]})
                self.assertEqual(heard.headers["accept"], "text/event-stream")
                self.assertEqual(heard.headers["mayfly-key"], "k")


if __name__ == "__main__":
    unittest.main()
