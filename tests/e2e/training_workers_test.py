"""Trials of several workers: one jail, one network of its own, one model."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections import defaultdict
from pathlib import Path

from case import NodeCase
from jobs_test import OVER
from node import descendants, wait_until
from python_test import text_of
from training_test import SPLIT, cancer

PATIENCE = 180
ROUNDS = 25_000
LISTENS = "0A"  # a state of /proc/net/tcp
BAD_USAGE = 2


class TrainingWorkersTest(NodeCase):
    arguments = ("--jobs-cpus", "4")

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cancer(cls.folder / "cancer.csv")
        cls.node.cli("data", "put", "cancer", str(cls.folder / "cancer.csv"), "--target", "class", "--split", SPLIT)

    def begin(self, name: str, rounds: int, *args: str) -> str:
        params = {"rounds": rounds, "early_stop": 0, "subsample": 0.8, "colsample_bytree": 0.5}
        done = self.node.cli("train", name, "--data", "cancer", "--params", json.dumps(params), "--seed", "5", "--threads", "1",
                             "--no-baseline", "--no-deploy", "--detach", *args)
        return text_of(done.stdout).strip()

    def until_done(self, job: str) -> dict:
        wait_until(lambda: self.node.cli_json("jobs", "show", job)["state"] in OVER, "the training ends", PATIENCE)
        shown = self.node.cli_json("jobs", "show", job)
        self.assertEqual(shown["state"], "done", shown)
        return shown

    def model(self, job: dict) -> str:
        return next(file["sha256"] for file in job["files"] if file["name"] == "model.onnx")

    def groups(self) -> dict[str, list[int]]:
        """Processes of the node by their network, of networks in which somebody speaks TCP; the host's is not among them."""
        found = defaultdict(list)
        for pid, _ in descendants(self.node.process.pid):
            try:
                network = os.readlink(f"/proc/{pid}/ns/net")
                if network != os.readlink("/proc/self/ns/net") and len(tcp_of(pid)) > 0:
                    found[network].append(pid)
            except OSError:
                continue
        return found

    def trial(self, job: str) -> dict:
        parts = self.node.request("GET", f"/api/v1/jobs?parent={job}").json()["jobs"]
        return next((part for part in parts if part["kind"] == "trial"), {})

    def round(self, job: str) -> int:
        found = re.match(r"round (\d+) ", self.trial(job).get("progress", {}).get("text", ""))
        return int(found[1]) if found else 0

    def test_workers_of_one_job_share_a_network_that_nobody_else_reaches(self) -> None:
        jobs = [self.begin(name, 100_000, "--workers", "2") for name in ("left", "right")]
        wait_until(lambda: all(self.round(job) > 0 for job in jobs), "both train", PATIENCE)
        groups = self.groups()
        self.assertEqual(len(groups), 2, groups)
        for pids in groups.values():
            self.assertGreaterEqual(len(pids), 3)  # jail init and two workers
            interfaces = Path(f"/proc/{pids[0]}/net/dev").read_text(encoding="ascii").splitlines()[2:]
            self.assertEqual([line.split(":")[0].strip() for line in interfaces], ["lo"])
            ports = [int(line[1].split(":")[1], 16) for line in tcp_of(pids[0]) if line[3] == LISTENS]
            self.assertGreater(len(ports), 0)
            for port in ports:
                with self.assertRaises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
        for job in jobs:
            self.node.cli("jobs", "cancel", job)
        wait_until(lambda: not self.groups(), "the workers end with their jobs", PATIENCE)

    def test_killed_in_the_middle_several_workers_make_the_same_model(self) -> None:
        whole = self.until_done(self.begin("whole", ROUNDS, "--workers", "2"))
        self.assertEqual(whole["training"]["train"]["workers"], 2)
        self.assertGreater(whole["result"]["best"]["metrics"]["auc"]["value"], 0.95)
        job = self.begin("killed", ROUNDS, "--workers", "2")
        wait_until(lambda: self.trial(job).get("slices", 0) > 0, "it keeps a checkpoint", PATIENCE)
        youngest = max((pid for pids in self.groups().values() for pid in pids), default=0)
        self.assertGreater(youngest, 0, "it was done before it could be killed")
        os.kill(youngest, signal.SIGKILL)
        killed = self.until_done(job)
        self.assertEqual(self.model(killed), self.model(whole))
        failed = re.search(r'mayfly_job_slices_total{kind="trial",outcome="failed"} (\d+)', self.node.request("GET", "/metrics").body.decode())
        self.assertTrue(failed and int(failed[1]) > 0, "nothing was killed")

    def test_several_workers_learn_from_all_rows_each_from_a_part(self) -> None:
        found = []
        for workers in ("1", "3"):
            params = {"rounds": 60, "early_stop": 0, "subsample": 1.0, "colsample_bytree": 1.0}
            done = self.node.cli_json("train", f"of{workers}", "--data", "cancer", "--params", json.dumps(params), "--seed", "5",
                                      "--threads", "1", "--no-deploy", "--workers", workers)
            self.assertIn("linear", json.dumps(done["result"]["baselines"]))
            found.append(done["result"]["best"]["metrics"]["log_loss"]["value"])
        # The same trees, but for rounding: of a third of the rows they would be others.
        self.assertAlmostEqual(found[1] / found[0], 1, delta=0.01)

    def test_the_plan_says_how_many_share_the_rows(self) -> None:
        done = self.node.cli("train", "shown", "--data", "cancer", "--params", '{"rounds": 5}', "--threads", "2", "--workers", "2",
                             "--no-deploy", "--no-baseline")
        self.assertIn("2 share the rows of a trial; threads of each: 2", text_of(done.stderr) + text_of(done.stdout))

    def test_what_workers_cannot_be_is_refused_before_anything_runs(self) -> None:
        for args, words in (
            (["--workers", "5"], "5 workers of 1 thread are more than jobs have: 4"),
            (["--workers", "2", "--threads", "3"], "2 workers of 3 threads are more than jobs have: 4"),
            (["--workers", "2", "--trainer", "linear"], "linear has one worker"),
            (["--workers", "100"], "workers"),
        ):
            done = self.node.cli("train", "never", "--data", "cancer", *args, check=False)
            self.assertEqual(done.returncode, BAD_USAGE, args)
            self.assertIn(words, text_of(done.stderr), args)
        wish = {"data": "cancer", "workers": 0}
        self.assertEqual(self.node.request("POST", "/api/v1/functions/never/trainings", json.dumps(wish).encode()).status, 400)


def tcp_of(pid: int) -> list[list[str]]:
    lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return [line.split() for line in lines]
