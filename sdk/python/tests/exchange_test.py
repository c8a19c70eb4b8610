"""What is tried again, when, and for how long: a pure decision, and the loop around it in virtual time."""

from __future__ import annotations

import unittest

import sdk_case  # noqa: F401
from mayfly import Busy, ConnectionFailed, MayflyError, NodeError, NotFound, TimedOut
from mayfly._exchange import Patience, Pause, Request, Response, exchange, pause_before_retry
from mayfly.errors import node_error

PATIENCE = Patience(timeout=60, retries=3)


def busy(seconds: float | None) -> Busy:
    error = node_error(503, "later", "draining", retry_after=seconds)
    assert isinstance(error, Busy)
    return error


class DecisionTest(unittest.TestCase):
    def test_only_what_surely_did_not_begin_is_tried_again(self) -> None:
        never_sent, sent = ConnectionFailed("no"), ConnectionFailed("no", sent=True)
        for error, repeatable, expected in (
            (never_sent, False, 0.1),
            (sent, False, None),
            (sent, True, 0.1),
            (busy(2), False, 2),
            (busy(None), False, None),
            (busy(31), False, None),  # longer than anybody waits
            (node_error(500, "crashed"), True, None),
            (node_error(429, "full", retry_after=1), False, 1),
            (TimedOut("slow"), True, None),
        ):
            with self.subTest(error=error, repeatable=repeatable):
                self.assertEqual(pause_before_retry(error, 1, PATIENCE, repeatable), expected)

    def test_pauses_grow_and_end(self) -> None:
        pauses = [pause_before_retry(ConnectionFailed("no"), n, PATIENCE) for n in (1, 2, 3, 4)]
        self.assertEqual(pauses, [0.1, 0.2, 0.4, None])


class Run:
    """Drives an exchange: `answers` are replies, or errors that the transport raises; pauses pass in no time."""

    def __init__(self, *answers: Response | MayflyError, patience: Patience = PATIENCE) -> None:
        self.now = 0.0
        self.timeouts: list[float] = []
        self._answers = list(answers)
        self._steps = exchange(Request("GET", "/"), patience, lambda: self.now)

    def result(self) -> Response:
        given: Response | MayflyError | None = None
        try:
            while True:
                failed = isinstance(given, MayflyError)
                step = self._steps.throw(given) if failed else self._steps.send(given)
                given = None
                if isinstance(step, Pause):
                    self.now += step.seconds
                else:
                    self.timeouts.append(step.timeout)
                    given = self._answers.pop(0)
        except StopIteration as done:
            return done.value


def refusal(status: int, **headers: str) -> Response:
    body = bytearray(b'{"error": "no", "reason": "draining", "hint": "wait"}')
    return Response(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, body
    )


OK = Response(200, {}, bytearray())


class ExchangeTest(unittest.TestCase):
    def test_a_node_that_says_when_to_come_back_is_asked_again_then(self) -> None:
        run = Run(refusal(503, retry_after="2"), refusal(429, retry_after="5"), OK)
        self.assertIs(run.result(), OK)
        self.assertEqual(run.now, 7)
        self.assertEqual(run.timeouts, [60, 58, 53])

    def test_the_last_refusal_is_what_the_caller_sees(self) -> None:
        run = Run(*[refusal(503, retry_after="1")] * 4)
        with self.assertRaises(Busy) as caught:
            run.result()
        self.assertEqual(run.now, 3)
        self.assertEqual(caught.exception.reason, "draining")
        self.assertEqual(caught.exception.hint, "wait")  # the node's own goes before ours

    def test_no_pause_goes_beyond_the_time_of_the_call(self) -> None:
        run = Run(refusal(503, retry_after="10"), patience=Patience(timeout=10))
        with self.assertRaises(Busy):
            run.result()
        self.assertEqual(run.now, 0)

    def test_an_error_that_is_no_json_has_its_status(self) -> None:
        with self.assertRaises(NotFound) as caught:
            Run(Response(404, {}, bytearray(b"<html>"))).result()
        self.assertEqual(caught.exception.status, 404)
        self.assertIn("404", str(caught.exception))

    def test_a_status_without_a_kind_of_its_own_is_a_node_error(self) -> None:
        with self.assertRaises(NodeError) as caught:
            Run(Response(418, {}, bytearray())).result()
        self.assertEqual(caught.exception.status, 418)


if __name__ == "__main__":
    unittest.main()
