"""Trainings that take minutes: killed again and again, and on more than their memory holds. `make soak` runs them."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
from case import NodeCase
from jobs_test import OVER
from node import descendants, wait_until
from python_test import text_of

PATIENCE = 3600
LASTS = 300.0  # seconds, of the training that nobody disturbs
ROWS = 400_000
KILLS = 20
SLICE = 30.0  # seconds: jobs.slice_seconds
MIB = 1 << 20


class TrainingSoak(NodeCase):
    def put(self, name: str, rows: int, columns: int) -> Path:
        """A label that is learned from three columns, and noise. The file, which is stored."""
        generator = np.random.default_rng(1)
        x = generator.standard_normal((rows, columns), dtype=np.float32)
        y = (2 * x[:, 0] + x[:, 1] * x[:, 2] + generator.standard_normal(rows) > 0).astype(np.int64)
        path = self.folder / f"{name}.npz"
        np.savez(path, x=x, y=y)
        del x, y
        put = self.node.cli_json("data", "put", name, str(path), "--target", "y", "--split", "seed=1", "--detach")
        self.until_done(put["id"])
        return path

    def begin(self, data: str, params: dict, *args: str) -> str:
        done = self.node.cli("train", data, "--data", data, "--params", json.dumps(params), "--seed", "1", "--threads", "1",
                             "--no-baseline", "--no-deploy", "--detach", *args)
        return text_of(done.stdout).strip()

    def job(self, job: str) -> dict:
        return self.node.cli_json("jobs", "show", job)

    def until_done(self, job: str) -> dict:
        wait_until(lambda: self.job(job)["state"] in OVER, "the training ends", PATIENCE)
        shown = self.job(job)
        self.assertEqual(shown["state"], "done", shown)
        return shown

    def trial(self, job: str) -> dict | None:
        parts = self.node.request("GET", f"/api/v1/jobs?parent={job}").json()["jobs"]
        return next((part for part in parts if part["kind"] == "trial"), None)

    def rounds(self, job: str) -> int:
        trial = self.trial(job) or {}
        found = re.match(r"round (\d+) ", trial.get("progress", {}).get("text", ""))
        return int(found[1]) if found else 0

    def model(self, job: dict) -> str:
        return next(file["sha256"] for file in job["files"] if file["name"] == "model.onnx")

    def test_killed_twenty_times_a_training_loses_a_slice_each_time_at_most(self) -> None:
        self.put("rows", ROWS, 100)
        began = time.monotonic()
        params = {"rounds": 400, "early_stop": 0, "subsample": 0.8}
        self.until_done(self.begin("rows", params))
        params["rounds"] = rounds = round(400 * LASTS / (time.monotonic() - began))
        began = time.monotonic()
        whole = self.until_done(self.begin("rows", params))
        lasted = time.monotonic() - began
        print(f"undisturbed: {rounds} rounds in {lasted:.0f} s", flush=True)
        job = self.begin("rows", params)
        lost = []
        for turn in range(KILLS):
            time.sleep(random.uniform(0.01, 0.03) * lasted)
            if self.job(job)["state"] in OVER:
                self.fail(f"it was over after {turn} kills")
            before = self.rounds(job)
            self.kill_one(("server", "runner", "trainer")[turn % 3])
            lost.append(self.lost_since(before, job) * lasted / rounds)
            print(f"kill {turn + 1} at round {before}: {lost[-1]:.1f} s of work lost", flush=True)
            self.assertLess(lost[-1], SLICE)
        self.assertEqual(self.model(self.until_done(job)), self.model(whole))

    def kill_one(self, which: str) -> None:
        if which == "server":
            self.node.kill()
            self.node.start()
            return
        # The runner is the server's own child; the trainer the one beneath it that takes the most memory of its own.
        found = [pid for pid, _ in descendants(self.node.process.pid)]
        runners = [pid for pid in found if parent_of(pid) == self.node.process.pid]
        pid = runners[0] if which == "runner" else max(set(found) - set(runners), key=memory_of)
        os.kill(pid, signal.SIGKILL)

    def lost_since(self, before: int, job: str) -> int:
        """Rounds that were done and are done again: the least that it says until it is beyond them."""
        least = before
        while (now := self.rounds(job)) <= before and self.job(job)["state"] not in OVER:
            least = min(least, now) if now else least
            time.sleep(0.2)
        return before - least

    def test_more_than_its_memory_holds_streams_from_the_disk(self) -> None:
        # Of these are gradients, places and sketches: some 60 bytes a row and 2 MB a column.
        limit, columns = 768 * MIB, 100
        path = self.put("large", 4 * limit // (4 * columns), columns)
        self.assertGreaterEqual(path.stat().st_size, 4 * limit)
        path.unlink()
        done = self.until_done(self.begin("large", {"rounds": 20, "max_bin": 64}, "--memory", f"{limit // MIB}MiB"))
        self.assertGreater(done["result"]["test"]["metrics"]["auc"]["low"], 0.8)


def parent_of(pid: int) -> int:
    return status_of(pid, "PPid")


def memory_of(pid: int) -> int:
    return status_of(pid, "RssAnon")


def status_of(pid: int, key: str) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(f"{key}:")), 0)
    except OSError:
        return 0
