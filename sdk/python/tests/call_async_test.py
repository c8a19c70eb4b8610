"""`call_async`: calls that are answered later, with each client, against a real node."""

from __future__ import annotations

import asyncio
import unittest

import numpy as np

import mayfly
from node import MODELS
from scripted import CLOSE, Scripted, reply
from sdk_case import BothClients, SdkCase

SIGNATURE = reply(
    200, b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}], "outputs": []}'
)
ACCEPTED = reply(
    202,
    b'{"id": "e-1", "function": "f", "state": "waiting", "attempts": 0, "max_attempts": 4,'
    b' "accepted": "2026-01-31T08:00:00Z", "expires": "2026-02-01T08:00:00Z"}',
)


class EventCases:
    functions = {"fp32": "identity_fp32", "orientation": "ocr_orientation", "hog": "memory_hog"}

    def test_what_was_accepted_comes_to_a_result(self) -> None:
        given = np.array([1.5, np.nan, np.inf], "f4")
        event = self.mayfly.call_async("fp32", given)
        self.assertEqual(event.function, "fp32")
        reply = self.mayfly.result(event)
        np.testing.assert_array_equal(reply["y"], given)
        self.assertEqual(reply.version, 1)
        np.testing.assert_array_equal(self.mayfly.result(event.id)["y"], given)
        now = self.mayfly.event(event)
        self.assertEqual((now.state, now.is_over, now.attempts), ("done", True, 1))
        self.assertIn(event.id, [listed.id for listed in self.mayfly.events("fp32", state="done")])

    def test_a_picture_is_accepted(self) -> None:
        event = self.mayfly.call_async(
            "orientation", MODELS / "ocr_orientation" / "upside-down.png"
        )
        self.assertGreater(self.mayfly.result(event)["orientation"][0, 1], 0.9)

    def test_a_key_makes_two_calls_one_event(self) -> None:
        key = f"order-{self.asynchronous}"
        first = self.mayfly.call_async("fp32", [1.0], idempotency_key=key)
        self.assertEqual(self.mayfly.call_async("fp32", [1.0], idempotency_key=key).id, first.id)
        error = self.assertFails(
            mayfly.Conflict, self.mayfly.call_async, "fp32", [2.0], idempotency_key=key
        )
        self.assertEqual((error.status, error.reason), (409, "conflict"))
        self.assertIn("idempotency_key", error.hint)

    def test_an_event_that_was_given_up_says_why(self) -> None:
        event = self.mayfly.call_async("hog", 2000)
        error = self.assertFails(mayfly.EventFailed, self.mayfly.result, event, timeout=60)
        self.assertEqual((error.status, error.reason), (422, "event_dead"))
        self.assertIn("out_of_memory", str(error))
        self.assertEqual(self.mayfly.event(event).reason, "out_of_memory")
        self.assertFalse(self.mayfly.redrive(event).is_over)
        self.assertIn(self.mayfly.cancel(event).state, ("cancelled", "running"))

    def test_what_is_not_there_is_not_found(self) -> None:
        self.assertFails(mayfly.NotFound, self.mayfly.event, "019a5d3e-6c0f-7a31-9d52-3f0d8f1f7a10")
        self.assertFails(mayfly.NotFound, self.mayfly.call_async, "absent", [1.0])
        self.assertFails(mayfly.InvalidArgument, self.mayfly.result, "")


class EventTest(EventCases, SdkCase):
    pass


class AsyncEventTest(EventCases, SdkCase):
    asynchronous = True

    def test_many_are_sent_and_collected(self) -> None:
        async def send() -> list[float]:
            async with mayfly.AsyncClient(self.node.url) as client:
                sent = await asyncio.gather(
                    *(client.call_async("fp32", [float(n)]) for n in range(50))
                )
                done = await asyncio.gather(*(client.result(event) for event in sent))
                return [float(reply["y"][0]) for reply in done]

        self.assertEqual(asyncio.run(send()), list(map(float, range(50))))


class BrokenCases(BothClients):
    def test_only_a_call_with_a_key_is_sent_again(self) -> None:
        with Scripted([SIGNATURE, CLOSE, ACCEPTED]) as server:
            event = self.client(server.url).call_async("f", [1.0], idempotency_key="k")
            self.assertEqual(event.id, "e-1")
            keys = [heard.headers.get("idempotency-key") for heard in server.heard]
            self.assertEqual(keys, [None, "k", "k"])
        with Scripted([SIGNATURE, CLOSE, ACCEPTED]) as server:
            client = self.client(server.url)
            self.assertFails(mayfly.ConnectionFailed, client.call_async, "f", [1.0])
            self.assertEqual(len(server.heard), 2)

    def test_waiting_ends_and_the_event_goes_on(self) -> None:
        with Scripted([ACCEPTED] * 20) as server:
            client = self.client(server.url)
            self.assertFails(mayfly.TimedOut, client.result, "e-1", timeout=0, text="still waiting")
            self.assertEqual(len(server.heard), 1)
            self.assertFails(mayfly.TimedOut, client.result, "e-1", timeout=0.4)
            self.assertEqual(len(server.heard), 5)  # the first, at once, and after 50, 150, 350 ms

    def test_a_node_that_knows_no_events_is_not_taken_to_have_accepted_one(self) -> None:
        with Scripted([SIGNATURE, reply(200, b'{"outputs": []}')]) as server:
            self.assertFails(mayfly.BadReply, self.client(server.url).call_async, "f", [1.0])


class BrokenTest(BrokenCases, unittest.TestCase):
    pass


class AsyncBrokenTest(BrokenCases, unittest.TestCase):
    asynchronous = True


if __name__ == "__main__":
    unittest.main()
