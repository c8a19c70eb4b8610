"""Requests that arrive together share an instance: each gets its own answer, whatever happens around them."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

from case import NodeCase
from node import Reply, tensor

CLIENTS = 200
ROUNDS = 15
MOST_ROUNDS = 400


class BurstTest(NodeCase):
    functions = {"calm": "identity_fp32", "f": "identity_fp32"}

    def test_each_of_many_requests_gets_its_own_answer(self) -> None:
        replies = self.storm("calm")
        for value, reply in replies:
            self.assertServed(reply)
            self.assertEqual(reply.output("y"), [value])
        self.assertIn('why="joins_burst"', self.node.request("GET", "/metrics").body.decode())

    def test_deaths_and_deadlines_mix_no_answers_up(self) -> None:
        self.killed = self.hurried = 0
        over = threading.Event()
        troubles = [
            threading.Thread(target=trouble, args=(over,))
            for trouble in (self.kill, self.hurry)
        ]
        for thread in troubles:
            thread.start()
        try:
            replies = self.storm("f", lambda: self.killed > 0 and self.hurried > 0)
        finally:
            over.set()
            for thread in troubles:
                thread.join()
        served = [(value, reply) for value, reply in replies if reply.status == 200]
        for value, reply in served:
            self.assertEqual(reply.output("y"), [value])
        for _, reply in replies:
            if reply.status != 200:
                self.assertIn(reply.reason, ("instance_crashed", "start_failed"))
        # One killed while it starts makes the function pause, and what asks meanwhile is refused at once.
        self.assertGreater(len(served), CLIENTS)
        self.assertGreater(self.killed, 0)
        self.assertGreater(self.hurried, 0)

    def storm(self, function: str, enough=lambda: True) -> list[tuple[int, Reply]]:
        """Everybody asks at once, ROUNDS times and until it is enough, each time with a number of its own."""
        rounds = 0
        goes_on = True

        def begin_round() -> None:
            nonlocal rounds, goes_on
            goes_on = rounds < ROUNDS or (rounds < MOST_ROUNDS and not enough())
            rounds += 1

        together = threading.Barrier(CLIENTS, begin_round)

        def ask(client: int) -> list[tuple[int, Reply]]:
            connection = self.node.connect()
            answers = []
            while True:
                together.wait()
                if not goes_on:
                    connection.close()
                    return answers
                value = client * MOST_ROUNDS + rounds
                answers.append((value, ask_for(connection, function, value)))

        with ThreadPoolExecutor(CLIENTS) as pool:
            return [answer for answers in pool.map(ask, range(CLIENTS)) for answer in answers]

    def kill(self, over: threading.Event) -> None:
        """Those that were there the last time: one killed at its start makes the function pause."""
        known: set[int] = set()
        while not over.wait(0.05):
            last, known = known, set(self.node.instances())
            for pid in last & known:
                try:
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1
                except ProcessLookupError:
                    pass

    def hurry(self, over: threading.Event) -> None:
        while not over.is_set():
            self.node.infer("f", tensor("x", "FP32", [1], [0]), parameters={"timeout": 1000})
            self.hurried += 1


def ask_for(connection, function: str, value: int) -> Reply:
    body = json.dumps({"inputs": [tensor("x", "FP32", [1], [value])]})
    connection.request("POST", f"/v2/models/{function}/infer", body)
    response = connection.getresponse()
    return Reply(response.status, response.headers, response.read())
