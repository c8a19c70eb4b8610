"""The server dies by SIGKILL at each place where it writes something of events: each event still ends once.

`MAYFLY_CRASH_EVENTS=10000` sends so many in all; a run of `make e2e` sends fewer.
"""

from __future__ import annotations

import http.client
import itertools
import os
import threading
import unittest

from node import PATIENCE, Node, descendants, tensor, wait_until

ASYNC = {"Prefer": "respond-async"}
EVENTS = int(os.environ.get("MAYFLY_CRASH_EVENTS", "600"))
FUNCTIONS = {"f": "identity_fp32", "late": "slow", "slow": "slow", "brief": "identity_fp32"}
OVER = ("done", "dead", "cancelled", "expired")


class CrashingNode(Node):
    """Like Node, of a server that dies where it is told to."""

    binary = "mayfly-crashing"

    def start_to_die(self, place: str, times: int) -> None:
        self.kill()
        self.server_environment = {"MAYFLY_CRASH_AT": f"{place}:{times}"}
        try:
            self.start()
        except AssertionError:  # it died before it was ready
            assert self.process.returncode == -9, self.tail()

    def start_again(self) -> None:
        self.kill()  # what the server left of processes ends by itself
        self.server_environment = {}
        self.start()

    def died(self) -> bool:
        self._seen |= descendants(self.process.pid)
        return self.process.poll() is not None


# The place, and the how many-th passing of it: the first ones of a run are often special.
BUSY = [
    ("blob.before", 1), ("blob.after", 1), ("blob.before", 8), ("blob.after", 9),
    ("enqueue.before", 5), ("enqueue.after", 5), ("lease.after", 1), ("lease.after", 6),
    ("complete.before", 1), ("complete.after", 1), ("complete.after", 7),
    ("retry.before", 1), ("retry.after", 1), ("bury.before", 1), ("bury.after", 2),
    ("cancel.before", 1), ("cancel.after", 1), ("redrive.before", 1), ("redrive.after", 1),
]
SLOW = [
    ("settle.before", 1), ("settle.after", 1), ("extend.before", 1), ("extend.after", 1),
    ("sweep.after", 1), ("remove.before", 1), ("remove.after", 1),
]  # what happens every ten seconds
AT_STOP = [("put_back.before", 1), ("put_back.after", 1)]
AT_START = [("recover.before", 1), ("recover.after", 1)]


class CrashTest(unittest.TestCase):
    def test_wherever_the_server_dies_every_event_ends_once(self) -> None:
        node = CrashingNode()
        self.addCleanup(node.close)
        for name, model in FUNCTIONS.items():
            node.deploy(name, model)
        node.configure("brief", result_ttl="1s")
        node.configure("late", max_attempts=2)
        load = Load(node)
        places = BUSY + SLOW + AT_STOP + AT_START
        each = -(-EVENTS // (len(places) - len(AT_START)))
        for place, times in places:
            with self.subTest(f"{place}:{times}"):
                self.die_at(node, load, place, times, each)
        self.check(node, load)

    def die_at(self, node: CrashingNode, load: "Load", place: str, times: int, each: int) -> None:
        if (place, times) in AT_START:
            node.start_again()
            wait_until(load.long_runs, "it runs")
            node.start_to_die(place, times)
        else:
            node.start_to_die(place, times)
            load.send(each)
        if (place, times) in AT_STOP:
            wait_until(load.long_runs, "it runs")
            node.process.terminate()
        elif (place, times) not in AT_START:
            load.stir(node)
        wait_until(node.died, f"it dies at {place}")
        self.assertEqual(node.process.returncode, -9, node.tail())
        node.start_again()
        load.send_again()
        load.end_long()

    def check(self, node: CrashingNode, load: "Load") -> None:
        """Every event that was accepted is over, with its own result, and the bill has each once."""
        wait_until(load.all_over, "all events end", patience=20 * PATIENCE)
        ends = {key: load.state(place) for key, place in load.accepted.items()}
        self.assertEqual(len(ends), len(set(load.accepted.values())), "two keys share an event")
        self.assertGreaterEqual(len(ends), EVENTS)
        by_kind: dict[str, dict[str, int]] = {}
        for (kind, value), event in ends.items():
            by_kind.setdefault(kind, {}).setdefault(event["state"], 0)
            by_kind[kind][event["state"]] += 1
            self.assertIn(event["state"], OVER)
            if kind == "f":
                reply = node.request("GET", load.accepted[kind, value])
                self.assertEqual(reply.json()["outputs"][0]["data"], [value])
        self.assertEqual(set(by_kind["f"]), {"done"}, by_kind)
        self.assertEqual(set(by_kind["bad"]), {"dead"}, by_kind)
        self.assertEqual(set(by_kind["late"]), {"dead"}, by_kind)
        listed = node.cli_json("events", "f", "--limit", "1")["counts"]
        self.assertEqual(listed["done"], by_kind["f"]["done"])
        rows = node.cli_json("usage", "--function", "f")["rows"]
        self.assertEqual(sum(row["requests"] for row in rows), by_kind["f"]["done"])
        print(f"\n  {len(ends)} events: {by_kind}")


class Load:
    """Events of every kind, sent until each was accepted; by (kind, value), which is its idempotency key."""

    def __init__(self, node: Node):
        self.node = node
        self.accepted: dict[tuple[str, int], str] = {}
        self.unanswered: set[tuple[str, int]] = set()
        self.numbers = itertools.count(1)
        self.held: list[tuple[str, int]] = []

    def send(self, count: int) -> None:
        kinds = ("f", "f", "bad", "f", "late", "f", "f", "brief")
        wanted = [(kinds[i % len(kinds)], next(self.numbers)) for i in range(count)]
        self.send_all(wanted)
        self.long()

    def send_all(self, wanted: list[tuple[str, int]]) -> None:
        self.unanswered |= set(wanted)
        queue = iter(wanted)
        lock = threading.Lock()

        def sender() -> None:
            while True:
                with lock:
                    key = next(queue, None)
                if key is None:
                    return
                self.try_send(key)

        senders = [threading.Thread(target=sender) for _ in range(4)]
        for thread in senders:
            thread.start()
        for thread in senders:
            thread.join()

    def try_send(self, key: tuple[str, int]) -> None:
        kind, value = key
        name, inputs = self.question(kind, value)
        headers = ASYNC | {"Idempotency-Key": f"{kind}-{value}"}
        body = {"inputs": inputs}
        if kind == "late":
            body["parameters"] = {"timeout": 50_000}
        path = f"/v2/models/{name}/infer"
        reply = self.asked(lambda: self.node.post_json(path, body, headers))
        if reply is None:
            return  # nobody knows whether it was accepted
        assert reply.status == 202, reply.body
        self.accepted[key] = reply.headers["Location"]
        self.unanswered.discard(key)

    def question(self, kind: str, value: int):
        if kind == "bad":
            return "f", [tensor("y", "FP32", [1], [value])]
        if kind in ("long", "late"):
            return "slow" if kind == "long" else "late", [tensor("count", "INT64", [1], [2_000_000_000 + value])]
        return ("brief" if kind == "brief" else "f"), [tensor("x", "FP32", [1], [value])]

    def send_again(self) -> None:
        self.send_all(sorted(self.unanswered))
        assert not self.unanswered, self.unanswered

    def long(self) -> None:
        """One that runs until it is cancelled."""
        key = ("long", next(self.numbers))
        self.unanswered.add(key)
        self.held.append(key)
        self.try_send(key)

    def long_runs(self) -> bool:
        if not self.held:
            self.long()
        return self.state(self.accepted[self.held[-1]])["state"] == "running"

    def end_long(self) -> None:
        for key in self.held:
            if key in self.accepted:
                self.node.request("DELETE", self.accepted[key])
        self.held = [key for key in self.held if key not in self.accepted]

    def stir(self, node: "CrashingNode") -> None:
        """Redrives a dead letter and cancels what runs, so that those places are passed."""
        dead = lambda: node.died() or self.asked(self.dead_letter)
        wait_until(dead, "there is a dead letter", 4 * PATIENCE)
        if place := self.asked(self.dead_letter):
            self.asked(lambda: node.request("POST", place + "/redrive"))
        if "extend" not in node.server_environment["MAYFLY_CRASH_AT"]:
            self.asked(self.end_long)

    def asked(self, ask):
        """None where the server is gone."""
        try:
            return ask()
        except (OSError, http.client.HTTPException):
            return None

    def dead_letter(self) -> str | None:
        late = [place for (kind, _), place in self.accepted.items() if kind == "late"]
        return next((place for place in late if self.state(place)["state"] == "dead"), None)

    def state(self, place: str) -> dict:
        return self.node.request("GET", place + "/state").json()

    def all_over(self) -> bool:
        counts = [self.node.cli_json("events", name, "--limit", "1")["counts"] for name in FUNCTIONS]
        return all(count["waiting"] + count["running"] == 0 for count in counts)


if __name__ == "__main__":
    unittest.main()
