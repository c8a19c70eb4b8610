"""Events: accepted before the 202, run while nobody waits, ended exactly once, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import threading
import unittest

from case import NodeCase
from keys_test import KeyedCase
from node import BIN, MODELS, Node, Reply, tensor, wait_until

ASYNC = {"Prefer": "respond-async"}
ONE = {"inputs": [tensor("x", "FP32", [1], [1])]}
OVERFLOW = {
    "inputs": [tensor("a", "INT32", [1], [-(2**31)]), tensor("b", "INT32", [1], [-1])]
}  # SIGFPE on x86-64


class EventCase(NodeCase):
    def send(self, name: str, value, **headers: str) -> Reply:
        more = {key.replace("_", "-"): text for key, text in headers.items()}
        return self.node.post_json(f"/v2/models/{name}/infer", value, ASYNC | more)

    def accepted(self, reply: Reply) -> str:
        """The event's place."""
        self.assertEqual(reply.status, 202, reply.body)
        self.assertEqual(reply.headers["Preference-Applied"], "respond-async")
        self.assertEqual(reply.headers["Location"], f"/api/v1/events/{reply.json()['id']}")
        return reply.headers["Location"]

    def state(self, place: str) -> dict:
        return self.node.request("GET", place + "/state").json()

    def ended(self, place: str) -> dict:
        wait_until(
            lambda: self.state(place)["state"] not in ("waiting", "running"), f"{place} ends"
        )
        return self.state(place)

    def records(self, name: str) -> dict:
        rows = self.node.cli_json("usage", "--function", name)["rows"]
        return {
            key: sum(row[key] for row in rows)
            for key in ("requests", "errors", "refused", "run_us")
        }


class AnswerTest(EventCase):
    functions = {"f": "identity_fp32", "iris": "iris"}

    def test_an_event_has_the_reply_that_its_sender_would_have_waited_for(self) -> None:
        row = {"x": [[5.1, 3.5, 1.4, 0.2]]}
        for path, body in (
            ("/functions/iris", json.loads(self.plain("iris"))),
            ("/functions/iris@1", json.loads(self.plain("iris"))),
            ("/v2/models/f/infer", ONE),
            ("/v2/models/f/versions/1/infer", ONE | {"id": "mine"}),
        ):
            with self.subTest(path, row=row):
                synchronous = self.node.post_json(path, body)
                self.assertServed(synchronous)
                place = self.accepted(self.node.post_json(path, body, ASYNC))
                self.assertEqual(self.ended(place)["state"], "done")
                later = self.node.request("GET", place)
                self.assertServed(later)
                self.assertEqual(later.body, synchronous.body)
                for header in ("Content-Type", "Mayfly-Version"):
                    self.assertEqual(later.headers[header], synchronous.headers[header])
                self.assertEqual(later.headers["Mayfly-Event-State"], "done")
                self.assertEqual(later.headers["Mayfly-Event-Attempts"], "1")

    def plain(self, model: str) -> str:
        example = json.loads((MODELS / model / "example.json").read_text())
        tensors = example["inputs"]
        return json.dumps({t["name"]: self.nested(t["data"], t["shape"]) for t in tensors})

    def nested(self, data: list, shape: list[int]) -> list:
        if len(shape) <= 1:
            return data
        step = len(data) // shape[0]
        return [self.nested(data[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]

    def test_raw_tensors_keep_their_form(self) -> None:
        head = json.dumps(
            {
                "inputs": [
                    {"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        body = head + b"\0\0\x80\x3f"
        headers = {"Inference-Header-Content-Length": str(len(head))}
        path = "/v2/models/f/infer"
        synchronous = self.node.request("POST", path, body, headers)
        self.assertServed(synchronous)
        place = self.accepted(self.node.request("POST", path, body, headers | ASYNC))
        self.assertEqual(self.ended(place)["state"], "done")
        later = self.node.request("GET", place)
        self.assertEqual(later.body, synchronous.body)
        name = "Inference-Header-Content-Length"
        self.assertEqual(later.headers[name], synchronous.headers[name])

    def test_a_key_is_good_for_one_event(self) -> None:
        first = self.accepted(self.send("f", ONE, Idempotency_Key="once"))
        self.ended(first)
        self.assertEqual(self.accepted(self.send("f", ONE, Idempotency_Key="once")), first)
        other = {"inputs": [tensor("x", "FP32", [1], [2])]}
        self.assertRefused(self.send("f", other, Idempotency_Key="once"), 409, "conflict")
        # The same body, asked of a version that is named.
        self.assertRefused(self.send("f@1", ONE, Idempotency_Key="once"), 409, "conflict", "/v2/models/f/infer")
        self.assertNotEqual(self.accepted(self.send("iris", self.iris(), Idempotency_Key="once")), first)
        self.assertRefused(self.send("f", ONE, Idempotency_Key="x" * 256), 400, "bad_request")

    def iris(self) -> dict:
        return json.loads((MODELS / "iris" / "example.json").read_text())

    def test_keys_that_come_together_are_one_event(self) -> None:
        places = []
        senders = [
            threading.Thread(
                target=lambda: places.append(
                    self.accepted(self.send("f", ONE, Idempotency_Key="together"))
                )
            )
            for _ in range(8)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        self.assertEqual(len(places), 8)
        self.assertEqual(len(set(places)), 1)

    def test_what_cannot_be_accepted_is_refused_at_once(self) -> None:
        self.assertRefused(self.send("nobody", ONE), 404, "unknown_function")
        self.assertRefused(self.send("f@9", ONE), 404, "unknown_version")
        self.assertRefused(self.node.request("GET", "/api/v1/events/nothing"), 404, "not_found")
        self.assertRefused(self.node.request("DELETE", "/api/v1/events/nothing"), 404, "not_found")
        path = "/api/v1/functions/f/events"
        for query in ("limit=0", "limit=1001", "limit=x", "state=odd"):
            self.assertRefused(self.node.request("GET", f"{path}?{query}"), 400, "bad_request")
        self.assertRefused(
            self.node.request("GET", "/api/v1/functions/nobody/events"), 404, "unknown_function"
        )

    def test_a_result_is_gone_after_its_time(self) -> None:
        self.node.deploy("short", "identity_fp32")
        self.node.configure("short", result_ttl="1s")
        place = self.accepted(self.send("short", ONE))
        self.assertEqual(self.ended(place)["state"], "done")
        wait_until(lambda: self.node.request("GET", place).status == 410, "the result is gone")
        self.assertRefused(self.node.request("GET", place), 410, "result_gone")
        blobs = self.node.data / "events" / "sha256"
        wait_until(
            lambda: self.state(place).get("result") is None and "idempotency_key" not in self.state(place),
            "it is swept",
        )
        self.assertTrue(blobs.exists())

    def test_the_bill_has_one_request_an_event(self) -> None:
        self.node.deploy("billed", "identity_fp32")
        places = [self.accepted(self.send("billed", ONE)) for _ in range(5)]
        for place in places:
            self.assertEqual(self.ended(place)["state"], "done")
        wait_until(lambda: self.records("billed")["requests"] == 5, "five are billed")
        self.assertEqual(self.records("billed")["errors"], 0)


class FailureTest(EventCase):
    functions = {"f": "identity_fp32", "crash": "crash", "slow": "slow"}

    def test_bad_input_is_a_dead_letter_with_its_reason(self) -> None:
        place = self.accepted(self.send("f", {"inputs": [tensor("y", "FP32", [1], [1])]}))
        self.assertEqual(self.ended(place)["state"], "dead")
        self.assertRefused(self.node.request("GET", place), 422, "event_dead", "invalid_input")
        self.assertEqual(self.state(place)["attempts"], 1)
        garbage = self.node.request("POST", "/functions/f", b"{not json", ASYNC)
        self.assertEqual(self.ended(self.accepted(garbage))["reason"], "bad_request")

    @unittest.skipUnless(
        os.uname().machine == "x86_64", "other processors do not trap this division"
    )
    def test_what_kills_its_instance_twice_is_given_up_and_billed(self) -> None:
        self.node.configure("crash", max_attempts=10)
        place = self.accepted(self.send("crash", OVERFLOW))
        about = self.ended(place)
        self.assertEqual((about["state"], about["attempts"]), ("dead", 2), about)
        self.assertEqual(about["reason"], "instance_crashed")
        wait_until(lambda: self.records("crash")["errors"] == 2, "both attempts are billed")
        dead = self.node.cli_json("events", "crash", "dead")["events"]
        self.assertEqual([event["id"] for event in dead], [about["id"]])
        self.assertEqual(self.node.cli_json("events", "crash", "redrive"), {"redriven": 1, "left": 0})
        self.assertEqual(self.ended(place)["state"], "dead")
        wait_until(lambda: self.records("crash")["errors"] == 4, "it was tried again")

    def test_a_deadline_is_tried_again_as_often_as_configured(self) -> None:
        self.node.configure("slow", max_attempts=2)
        endless = {
            "inputs": [tensor("count", "INT64", [1], [10_000_000])],
            "parameters": {"timeout": 200_000},
        }
        about = self.ended(self.accepted(self.send("slow", endless)))
        self.assertEqual((about["state"], about["attempts"]), ("dead", 2), about)
        self.assertEqual(about["reason"], "deadline_exceeded")

    def test_a_running_event_is_cancelled(self) -> None:
        self.node.deploy("long", "slow")
        endless = {"inputs": [tensor("count", "INT64", [1], [1_000_000_000])]}
        place = self.accepted(self.send("long", endless))
        wait_until(lambda: self.node.running("long")[0] == 1, "it runs")
        self.assertEqual(self.node.request("GET", place).status, 202)
        self.assertEqual(self.node.request("DELETE", place).json()["state"], "cancelled")
        self.assertRefused(self.node.request("GET", place), 422, "event_cancelled")
        wait_until(lambda: self.node.running("long")[0] == 0, "its instance ends")
        self.assertEqual(self.state(place)["state"], "cancelled")

    def test_what_waits_too_long_expires(self) -> None:
        self.node.deploy("late", "slow")
        self.node.configure("late", max_age="1s", max_attempts=100)
        endless = {
            "inputs": [tensor("count", "INT64", [1], [10_000_000])],
            "parameters": {"timeout": 200_000},
        }
        place = self.accepted(self.send("late", endless))
        self.assertEqual(self.ended(place)["state"], "expired")
        self.assertRefused(self.node.request("GET", place), 422, "event_expired")

    def test_a_function_takes_as_many_as_it_may(self) -> None:
        self.node.deploy("few", "slow")
        self.node.configure("few", max_events=2)
        endless = {"inputs": [tensor("count", "INT64", [1], [1_000_000_000])]}
        places = [self.accepted(self.send("few", endless)) for _ in range(2)]
        self.assertRefused(self.send("few", endless), 429, "queue_full")
        for place in places:
            self.node.request("DELETE", place)
        self.assertEqual(self.send("few", ONE).status, 202)


class TakingTurnsTest(EventCase):
    functions = {"f": "identity_fp32", "slow": "slow"}
    arguments = ("--events-concurrency", "2")

    def test_requests_that_somebody_waits_for_come_first(self) -> None:
        endless = {"inputs": [tensor("count", "INT64", [1], [1_000_000_000])]}
        places = [self.accepted(self.send("slow", endless)) for _ in range(6)]
        wait_until(lambda: self.node.running("slow")[0] >= 1, "events run")
        for _ in range(20):
            self.assertServed(self.node.post_json("/v2/models/f/infer", ONE))
        counts = self.node.cli_json("events", "slow")["counts"]
        self.assertLessEqual(counts["running"], 2)
        for place in places:
            self.node.request("DELETE", place)


class KillTest(EventCase):
    functions = {"f": "identity_fp32", "slow": "slow"}

    def test_after_kill_9_every_accepted_event_ends_once(self) -> None:
        places = [self.accepted(self.send("f", ONE)) for _ in range(60)]
        self.node.kill()
        self.node.start()
        for place in places:
            self.assertEqual(self.ended(place)["state"], "done")
        self.assertEqual(self.node.cli_json("events", "f")["counts"]["done"], 60)
        wait_until(lambda: self.records("f")["requests"] >= 60, "all are billed")
        self.assertEqual(self.records("f")["requests"], 60)

    def test_an_attempt_that_the_server_took_with_it_costs_nothing(self) -> None:
        endless = {"inputs": [tensor("count", "INT64", [1], [1_000_000_000])]}
        place = self.accepted(self.send("slow", endless))
        wait_until(lambda: self.node.running("slow")[0] == 1, "it runs")
        self.node.kill()
        self.node.start()
        wait_until(lambda: self.node.running("slow")[0] == 1, "it runs again at once")
        self.assertEqual(self.state(place)["attempts"], 0)
        records = self.records("slow")
        self.assertEqual((records["refused"], records["run_us"]), (1, 0))
        self.node.request("DELETE", place)

    def test_a_stop_puts_back_what_runs(self) -> None:
        self.node.deploy("held", "slow")
        endless = {"inputs": [tensor("count", "INT64", [1], [1_000_000_000])]}
        place = self.accepted(self.send("held", endless))
        wait_until(lambda: self.node.running("held")[0] == 1, "it runs")
        self.assertEqual(self.node.stop(), 0)
        self.node.start()
        wait_until(lambda: self.node.running("held")[0] == 1, "it runs again")
        self.assertEqual(self.state(place)["attempts"], 0)
        self.node.request("DELETE", place)


class CommandLineTest(EventCase):
    functions = {"f": "identity_fp32"}

    def test_invoke_async_and_events(self) -> None:
        sent = self.node.cli_json("invoke", "f", "--async", "-d", json.dumps(ONE))
        self.ended(f"/api/v1/events/{sent['id']}")
        shown = self.node.cli_json("events", "f", "show", sent["id"])
        self.assertEqual(shown["state"], "done")
        waited = self.node.cli("invoke", "f", "--async", "--wait", "-d", json.dumps(ONE))
        self.assertEqual(json.loads(waited.stdout)["outputs"][0]["data"], [1])
        again = self.node.cli_json("invoke", "f", "--async", "--key", "k", "-d", json.dumps(ONE))
        same = self.node.cli_json("invoke", "f", "--async", "--key", "k", "-d", json.dumps(ONE))
        self.assertEqual(again["id"], same["id"])
        self.assertIn(sent["id"], self.node.cli("events", "f").stdout.decode())
        cancelled = self.node.cli_json("events", "f", "cancel", sent["id"])
        self.assertEqual(cancelled["state"], "done")  # as it ended
        refused = self.node.cli("events", "f", "show", check=False)
        self.assertEqual(refused.returncode, 2)
        unknown = self.node.cli("events", "f", "show", "nothing", check=False)
        self.assertEqual(unknown.returncode, 3)
        bad = json.dumps({"inputs": [tensor("y", "FP32", [1], [1])]})
        failed = self.node.cli("invoke", "f", "--async", "--wait", "-d", bad, check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn(b"event_dead", failed.stderr)


class ScopeTest(KeyedCase):
    functions = {"iris": "iris"}

    def test_events_are_for_those_who_may_ask_the_function(self) -> None:
        self.node.deploy("other", "iris")
        own = self.make("invoke:iris")["key"]
        reader = self.make("read:iris")["key"]
        foreign = self.make("invoke:other")["key"]
        self.node.cli("project", "create", "team", "--data", str(self.node.data))
        team = self.make("invoke:*", "--project", "team")["key"]
        example = json.loads((MODELS / "iris" / "example.json").read_text())
        sent = self.node.post_json(
            "/v2/models/iris/infer", example, ASYNC | {"Authorization": f"Bearer {own}"}
        )
        self.assertEqual(sent.status, 202, sent.body)
        place = sent.headers["Location"]
        wait_until(lambda: self.ask("GET", place, own).status == 200, "it is done")
        self.assertEqual(self.ask("GET", place, reader).status, 200)
        self.assertEqual(self.ask("DELETE", place, reader).status, 403)
        for key in (foreign, team):
            for method, path in (("GET", place), ("GET", place + "/state"), ("DELETE", place),
                                 ("POST", place + "/redrive")):
                self.assertRefused(self.ask(method, path, key), 404, "not_found")
        listing = "/api/v1/functions/iris/events"
        self.assertEqual(self.ask("GET", listing, own).status, 200)
        self.assertEqual(self.ask("GET", listing, foreign).status, 403)
        self.assertEqual(self.ask("GET", listing, team).status, 404)
        self.assertEqual(self.ask("GET", place).status, 401)


if __name__ == "__main__":
    unittest.main()
