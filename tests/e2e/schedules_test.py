"""Schedules: made, paused, run; what was missed, and what a server that is killed must not do twice."""

from __future__ import annotations

import json
import sqlite3
import time
import unittest

from batch_test import flowers, write_csv
from case import NodeCase
from events_crash_test import CrashingNode
from jobs_test import OVER
from keys_test import KeyedCase
from node import Node, Reply, wait_until
from python_test import PythonCase

HOUR = 3_600_000_000_000  # in ns
ROW = {"x": [1.0]}


def wish(**more) -> dict:
    return {"name": "nightly", "function": "f", "cron": "0 2 * * *", "payload": ROW} | more


def make(node: Node, **more) -> dict:
    reply = node.post_json("/api/v1/schedules", wish(**more))
    assert reply.status == 201, reply.body
    return reply.json()


def shown(node: Node, name: str = "nightly") -> dict:
    return node.request("GET", f"/api/v1/schedules/{name}").json()


def events(node: Node, name: str = "f") -> list[dict]:
    return node.request("GET", f"/api/v1/functions/{name}/events").json()["events"]


def planned_for(node: Node, ago: int) -> None:
    """As if every schedule had been due `ago` ns ago. The node is down."""
    with sqlite3.connect(node.data / "schedules.db") as database:
        database.execute("UPDATE schedule SET next = ?", (time.time_ns() - ago,))
    database.close()


class ScheduleTest(NodeCase):
    functions = {"f": "identity_fp32"}

    def test_a_schedule_is_made_shown_run_paused_and_deleted(self) -> None:
        about = self.node.cli_json(
            "schedule", "create", "cli", "f", "--cron", "0 2 * * MON-FRI", "--timezone", "Europe/Berlin",
            "-d", json.dumps(ROW), "--missed", "skip",
        )
        self.assertEqual((about["missed"], about["paused"]), ("skip", False))
        self.assertTrue(about["function_exists"])
        self.assertIn(about["next"][11:16], ("00:00", "01:00"))
        event = self.node.cli("schedule", "run", "cli").stdout.decode().strip()
        wait_until(lambda: shown(self.node, "cli")["last"]["state"] == "done", "it runs")
        last = self.node.cli_json("schedule", "show", "cli")["last"]
        self.assertEqual((last["event"], last["outcome"]), (event, "accepted"))
        reply = self.node.request("GET", f"/api/v1/events/{event}")
        self.assertEqual(reply.json(), self.node.post_json("/functions/f", ROW).json())
        paused = self.node.cli_json("schedule", "pause", "cli")
        self.assertTrue(paused["paused"])
        self.assertNotIn("next", paused)
        self.assertEqual(self.node.cli_json("schedule", "resume", "cli")["next"], about["next"])
        names = [one["name"] for one in self.node.cli_json("schedule", "list")["schedules"]]
        self.assertIn("cli", names)
        self.assertIn("cli", self.node.cli("schedule", "list").stdout.decode())
        self.node.cli("schedule", "delete", "cli")
        self.assertRefused(self.node.request("GET", "/api/v1/schedules/cli"), 404, "not_found")

    def test_bytes_are_payloads_too(self) -> None:
        body = wish(name="bytes", payload_base64="eyJ4IjogWzIuMF19", content_type="application/json")
        del body["payload"]
        self.assertEqual(self.node.post_json("/api/v1/schedules", body).status, 201)
        reply = self.node.request("POST", "/api/v1/schedules/bytes/run")
        self.assertEqual(reply.status, 202)
        place = reply.headers["Location"]
        wait_until(lambda: self.node.request("GET", place).status == 200, "it runs")
        self.assertEqual(
            self.node.request("GET", place).json(), self.node.post_json("/functions/f", {"x": [2.0]}).json()
        )

    def test_wrong_schedules_are_refused(self) -> None:
        for more, text in (
            ({"cron": "0 25 * * *"}, "the field 'hour': '25'"),
            ({"cron": "0 0 30 2 *"}, "never comes"),
            ({"cron": ""}, "cron: say when"),
            ({"timezone": "Mars/Olympus"}, "knows no 'Mars/Olympus'"),
            ({"missed": "all"}, "missed"),
            ({"name": "No Name"}, "name"),
            ({"payload_base64": "e30="}, "either payload or payload_base64"),
            ({"odd": 1}, "odd"),
        ):
            with self.subTest(more):
                self.assertRefused(self.try_make(**more), 400, "invalid_setting", text)
        self.assertRefused(self.try_make(function="nobody"), 404, "unknown_function")
        self.assertRefused(self.try_make(function="f@9"), 404, "unknown_version")
        make(self.node, name="once")
        self.assertRefused(self.try_make(name="once"), 409, "conflict")

    def try_make(self, **more) -> Reply:
        return self.node.post_json("/api/v1/schedules", wish(**more))

    def test_the_run_of_a_function_that_is_gone_is_a_dead_letter(self) -> None:
        self.node.deploy("gone", "identity_fp32")
        make(self.node, name="lost", function="gone")
        self.node.cli("delete", "gone", "--yes")
        self.assertFalse(shown(self.node, "lost")["function_exists"])
        self.assertEqual(self.node.request("POST", "/api/v1/schedules/lost/run").status, 202)
        wait_until(lambda: shown(self.node, "lost")["last"].get("state") == "dead", "it ends")
        self.assertEqual(shown(self.node, "lost")["last"]["reason"], "unknown_function")
        self.assertEqual([event["state"] for event in events(self.node, "gone")], ["dead"])


class MetricsTest(NodeCase):
    functions = {"f": "identity_fp32"}

    def lines(self) -> list[str]:
        return self.node.request("GET", "/metrics").body.decode().splitlines()

    def test_metrics_tell_of_events_and_runs(self) -> None:
        self.assertIn('mayfly_events{state="done"} 0', self.lines())
        make(self.node)
        self.assertEqual(self.node.request("POST", "/api/v1/schedules/nightly/run").status, 202)
        wait_until(lambda: 'mayfly_event_seconds_count{state="done"} 1' in self.lines(), "it is counted")
        lines = self.lines()
        for line in (
            'mayfly_events{state="done"} 1',
            "mayfly_event_oldest_waiting_seconds 0",
            'mayfly_event_attempts_total{outcome="done"} 1',
            'mayfly_schedule_runs_total{outcome="accepted"} 1',
            'mayfly_schedule_runs_total{outcome="missed"} 0',
        ):
            self.assertIn(line, lines)


class MissedTest(NodeCase):
    functions = {"f": "identity_fp32"}

    def test_what_was_missed_runs_once_or_not_at_all(self) -> None:
        make(self.node, cron="0 * * * *")
        make(self.node, name="skipping", cron="0 * * * *", missed="skip")
        make(self.node, name="paused", cron="0 * * * *")
        self.node.kill()
        planned_for(self.node, ago=30 * HOUR)
        with sqlite3.connect(self.node.data / "schedules.db") as database:
            database.execute("UPDATE schedule SET next = NULL WHERE name = 'paused'")
        database.close()
        self.node.start()
        wait_until(lambda: "last" in shown(self.node, "skipping") and "last" in shown(self.node), "it is looked")
        self.assertEqual(shown(self.node)["last"]["outcome"], "accepted")
        self.assertEqual(shown(self.node, "skipping")["last"]["outcome"], "missed")
        self.assertNotIn("last", shown(self.node, "paused"))
        wait_until(lambda: shown(self.node)["last"]["state"] == "done", "it runs")
        self.assertEqual(len(events(self.node)), 1)
        self.node.stop()
        self.node.start()
        self.assertEqual(len(events(self.node)), 1)


class DyingTest(unittest.TestCase):
    def test_a_run_that_the_server_dies_after_is_not_made_again(self) -> None:
        node = CrashingNode()
        self.addCleanup(node.close)
        node.deploy("f", "identity_fp32")
        node.configure("f", result_ttl="1s")  # the key is forgotten soon after the event has ended
        make(node, cron="@yearly")
        expected = 0
        for place in ("enqueue.before", "enqueue.after"):
            with self.subTest(place):
                node.kill()
                planned_for(node, ago=HOUR)
                node.start_to_die(place, 1)
                wait_until(node.died, "it dies")
                expected += 1
                node.start_again()
                wait_until(lambda: len(events(node)) >= expected, "the run is there")
                wait_until(lambda: all(e["state"] == "done" for e in events(node)), "it ends")
                self.assertEqual(shown(node)["last"]["outcome"], "accepted")
                self.assertEqual(len(events(node)), expected, events(node))


class ScheduledJobsTest(PythonCase):
    functions = {"iris": "iris"}

    def rows(self, count: int = 30):
        source = self.folder / "rows.csv"
        write_csv(source, flowers(count))
        return source

    def schedule(self, name: str, function: str, *more: str) -> dict:
        return self.node.cli_json("schedule", "create", name, function, "--cron", "@yearly", *more)

    def run_now(self, name: str) -> dict:
        job = self.node.cli("schedule", "run", name).stdout.decode().strip()
        wait_until(lambda: self.job(job)["state"] in OVER, "the job ends", 60)
        return self.job(job)

    def job(self, job: str) -> dict:
        return self.node.request("GET", f"/api/v1/jobs/{job}").json()

    def test_a_batch_runs_whenever_its_schedule_is_due_and_its_input_stays(self) -> None:
        about = self.schedule("scores", "iris", "--input", str(self.rows()), "--keep", "id",
                              "--output-format", "jsonl", "--overlap", "allow")
        self.assertEqual((about["kind"], about["overlap"]), ("batch", "allow"))
        self.node.cli("gc")
        job = self.run_now("scores")
        self.assertEqual((job["state"], job["result"]["rows"]), ("done", 30), job)
        self.node.stop()
        self.node.start()  # which removes what nobody names
        second = self.run_now("scores")
        self.assertEqual((second["state"], second["result"]["rows"]), ("done", 30), second)
        made = self.folder / "made"
        self.node.cli("jobs", "get", second["id"], "--output", str(made))
        self.assertEqual(len((made / "output.jsonl").read_text().splitlines()), 30)
        runs = self.node.cli_json("schedule", "describe", "scores")["runs"]
        self.assertEqual([(run["job"], run["state"]) for run in runs], [(second["id"], "done"), (job["id"], "done")])
        self.assertIn(job["id"], self.node.cli("schedule", "show", "scores").stdout.decode())
        file = self.node.data / "jobs" / "sha256" / about["input_sha256"][:2] / about["input_sha256"]
        self.assertTrue(file.exists(), file)
        self.node.cli("schedule", "delete", "scores")
        wait_until(lambda: not file.exists(), "the input goes", 40)

    def test_a_run_of_a_python_function_is_a_target_too(self) -> None:
        self.deploy("train", """
            def run(inputs, ctx):
                return {"twice": inputs["x"] * 2}
        """)
        about = self.schedule("training", "train", "--run", "-d", '{"x": 21}')
        self.assertEqual(about["kind"], "run")
        self.assertEqual(self.run_now("training")["result"], {"twice": 42})

    def test_what_could_not_be_submitted_is_refused_at_once(self) -> None:
        def refused(job, reason: str, text: str, status: int = 400, **more) -> None:
            body = {"name": "no", "function": "iris", "cron": "@daily", "job": job} | more
            self.assertRefused(self.node.post_json("/api/v1/schedules", body), status, reason, text)

        refused({"kind": "dance"}, "invalid_setting", "kind must be")
        refused([], "invalid_setting", "kind must be")
        refused({"kind": "run"}, "bad_request", "only Python functions")
        refused({"kind": "batch"}, "bad_request", "input must say")
        refused({"kind": "batch", "input": {"sha256": "0" * 64}}, "not_found", "nothing with the digest", 404)
        refused({"kind": "run"}, "invalid_setting", "a job has no payload", payload={})
        refused({"kind": "run"}, "invalid_setting", "overlap", overlap="replace")
        self.assertRefused(self.node.request("GET", "/api/v1/schedules/no"), 404, "not_found")

    def test_the_run_of_a_function_that_is_gone_is_refused(self) -> None:
        self.node.deploy("passing", "iris")
        self.schedule("lost", "passing", "--input", str(self.rows()))
        self.node.cli("delete", "passing", "--yes")
        self.assertRefused(self.node.request("POST", "/api/v1/schedules/lost/run"), 404, "unknown_function")


class DyingJobTest(NodeCase):
    def test_a_job_that_the_server_dies_after_is_not_submitted_again(self) -> None:
        node = Node()
        self.addCleanup(node.close)
        node.deploy("iris", "iris")
        source = self.folder / "rows.csv"
        write_csv(source, flowers(10))
        node.cli("schedule", "create", "nightly", "iris", "--cron", "@yearly", "--input", str(source), "--missed", "skip")
        node.kill()
        planned_for(node, ago=10**9)
        # Nothing can be noted while somebody else writes: the server dies after the job, before the note.
        database = sqlite3.connect(node.data / "schedules.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        node.start()
        wait_until(lambda: node.request("GET", "/api/v1/jobs").json()["jobs"], "the job is there")
        node.kill()
        database.execute("ROLLBACK")
        self.assertEqual(database.execute("SELECT count(*) FROM schedule_run").fetchone(), (0,))
        database.execute("UPDATE schedule SET next = next")
        database.close()
        node.start()
        wait_until(lambda: "last" in shown(node), "it is noted")
        jobs = node.request("GET", "/api/v1/jobs").json()["jobs"]
        self.assertEqual(len(jobs), 1, jobs)
        last = shown(node)["last"]
        self.assertEqual((last["outcome"], last["job"]), ("accepted", jobs[0]["id"]))
        wait_until(lambda: shown(node)["last"]["state"] == "done", "it ends", 60)


class ScheduleKeysTest(KeyedCase):
    functions = {"f": "identity_fp32", "g": "identity_fp32"}

    def test_schedules_are_for_those_who_may_ask_the_function(self) -> None:
        both = self.make("configure:f,invoke:f")["key"]
        invoke = self.make("invoke:f")["key"]
        configure = self.make("configure:f,read:f")["key"]
        other = self.make("configure:g,invoke:g")["key"]
        path = "/api/v1/schedules"
        self.assertRefused(self.ask("GET", path), 401, "unauthenticated")
        self.assertRefused(self.ask("POST", path, invoke, wish()), 403, "missing_scope", "configure")
        self.assertRefused(self.ask("POST", path, configure, wish()), 403, "missing_scope", "invoke:f")
        self.assertRefused(self.ask("POST", path, other, wish()), 403, "missing_scope")
        self.assertEqual(self.ask("POST", path, both, wish()).status, 201)
        one = f"{path}/nightly"
        self.assertEqual(self.ask("GET", one, invoke).status, 200)
        self.assertEqual(self.ask("GET", path, other).json()["schedules"], [])
        self.assertRefused(self.ask("GET", one, other), 404, "not_found")
        self.assertRefused(self.ask("DELETE", one, other), 404, "not_found")
        self.assertRefused(self.ask("POST", f"{one}/pause", invoke), 403, "missing_scope")
        self.assertRefused(self.ask("POST", f"{one}/run", configure), 403, "missing_scope")
        self.assertEqual(self.ask("POST", f"{one}/run", invoke).status, 202)
        self.assertEqual(self.ask("POST", f"{one}/pause", configure).status, 200)
        self.assertEqual(self.ask("DELETE", one, configure).status, 200)
        said = {entry["action"] for entry in self.audit(subject="nightly")}
        self.assertLessEqual(
            {"schedule.create", "schedule.pause", "schedule.run", "schedule.delete"}, said
        )


if __name__ == "__main__":
    unittest.main()
