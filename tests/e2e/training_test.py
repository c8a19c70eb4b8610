"""Trainings to a goal: real data, every end, kills in the middle, two at once."""

from __future__ import annotations

import csv
import json
import random
import threading
import time

import numpy as np
from case import NodeCase
from data_test import write_table
from jobs_test import OVER
from node import wait_until
from python_test import text_of
from sklearn.datasets import load_breast_cancer

PATIENCE = 180
GOAL_NOT_REACHED, DATA_TOO_SMALL = 9, 10
SPLIT = "seed=1"  # the same rows in the same split on every node


def cancer(path, rows: int | None = None, noise: float = 0.0) -> None:
    """The 569 rows of breast cancer; with `noise` of the labels turned around, by their rows."""
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names] + ["class"]
    target = data.target.copy()
    turned = np.random.default_rng(1).random(len(target)) < noise
    target[turned] = 1 - target[turned]
    table = [[*map(repr, map(float, row)), label] for row, label in zip(data.data, data.target_names[target])]
    write_table(path, names, table[:rows])


class TrainingTest(NodeCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cancer(cls.folder / "cancer.csv")
        cancer(cls.folder / "noisy.csv", noise=0.3)
        cancer(cls.folder / "small.csv", rows=150)
        for name in ("cancer", "noisy", "small"):
            cls.node.cli("data", "put", name, str(cls.folder / f"{name}.csv"), "--target", "class", "--split", SPLIT)

    def train(self, name: str, *args: str, code: int = 0) -> dict:
        done = self.node.cli("train", name, *args, "--json", check=False)
        self.assertEqual(done.returncode, code, done.stderr.decode() + done.stdout.decode())
        return json.loads(done.stdout)

    def begin(self, name: str, *args: str) -> str:
        return text_of(self.node.cli("train", name, *args, "--detach").stdout).strip()

    def job(self, job: str) -> dict:
        return self.node.cli_json("jobs", "show", job)

    def parts(self, job: str) -> list[dict]:
        return self.node.request("GET", f"/api/v1/jobs?parent={job}&limit=1000").json()["jobs"]

    def until_over(self, job: str) -> dict:
        wait_until(lambda: self.job(job)["state"] in OVER, f"job {job} ends", PATIENCE)
        return self.job(job)

    def test_trained_to_a_goal(self) -> None:
        job = self.train("tumor", "--data", "cancer", "--goal", "auc >= 0.9", "--no-search", "--seed", "1")
        result = job["result"]
        self.assertEqual(job["kind"], "train")
        self.assertEqual(result["outcome"], "goal_reached", result)
        plan = job["training"]
        self.assertEqual((plan["train"]["task"], plan["train"]["target"], plan["metric"]), ("binary", "class", "auc"))
        test = result["test"]
        self.assertEqual(test["looks"], self.looks("cancer"))
        self.assertGreater(test["metrics"]["auc"]["value"], 0.95)
        self.assertGreaterEqual(test["metrics"]["auc"]["low"], 0.9)
        self.assertIn("linear", result["baselines"])
        self.assertIn("majority", result["baselines"])
        self.assertGreater(result["cost"]["amount"], 0)
        names = {file["name"] for file in job["files"]}
        self.assertEqual(names, {"model.onnx", "report.json", "decisions.jsonl"})
        kinds = sorted(part["kind"] for part in self.parts(job["id"]))
        self.assertEqual(kinds, ["score", "trial", "trial"])
        self.assertEqual(self.node.usage("tumor")["requests"], 3)  # slices of its parts, and none of its own

    def looks(self, dataset: str) -> int:
        return len(self.node.request("GET", f"/api/v1/datasets/{dataset}/snapshots/latest").json()["test_looks"])

    def test_a_file_becomes_a_dataset_first(self) -> None:
        job = self.train("fresh", "--data", str(self.folder / "cancer.csv"), "--target", "class", "--no-baseline")
        self.assertEqual(job["training"]["data"], {"dataset": "fresh", "snapshot": 1})
        self.assertEqual(job["result"]["outcome"], "finished")

    def test_a_goal_out_of_reach_has_its_exit_code(self) -> None:
        result = self.train("noisy", "--data", "noisy", "--goal", "auc >= 0.97", code=GOAL_NOT_REACHED)["result"]
        self.assertEqual(result["outcome"], "goal_not_reached")
        self.assertGreaterEqual(result["candidates"], 27)  # who names a goal and no way to it has one searched for
        self.assertNotIn("version", result)
        self.assertIn("out of reach", result["why"])

    def test_too_little_data_says_how_much_would_do(self) -> None:
        result = self.train("small", "--data", "small", "--goal", "accuracy >= 0.93", "--no-search", "--seed", "1", code=DATA_TOO_SMALL)["result"]
        self.assertEqual(result["outcome"], "data_too_small")
        self.assertGreater(result["rows_to_decide"], result["test"]["rows"])

    def test_a_date_is_asked_as_it_was_learned(self) -> None:
        rows = [[f"2025-{1 + i % 12:02}-{1 + i % 28:02}", "late" if i % 12 >= 6 else "early"] for i in range(600)]
        table = self.folder / "days.csv"
        write_table(table, ["day", "half"], rows)
        self.node.cli("data", "put", "days", str(table), "--target", "half", "--split", SPLIT)
        self.train("days", "--data", "days", "--seed", "1", "--no-baseline")
        asked = {"day": ["2026-01-15", "2026-09-15T08:00:00+02:00", 1768435200000]}
        reply = self.node.request("POST", "/functions/days", json.dumps(asked)).json()
        self.assertEqual(reply["label"], ["early", "late", "early"])
        self.assertEqual(reply["probabilities"][0], reply["probabilities"][2])
        refused = self.node.request("POST", "/functions/days", json.dumps({"day": ["2026-02-30"]}))
        self.assertEqual(refused.status, 400)
        self.assertIn("or a date as ISO 8601 has it", text_of(refused.body))
        answers = self.folder / "answers.csv"
        self.node.cli("batch", "days", "--input", str(table), "--output", str(answers))
        with open(answers, encoding="utf-8") as file:
            self.assertEqual([line["label"] for line in csv.DictReader(file)], [half for _, half in rows])

    def test_what_cannot_be_is_refused_before_anything_runs(self) -> None:
        for args, words in (
            (["--goal", "auc <= 0.9"], "higher is better"),
            (["--goal", "gini >= 0.9"], "auc (higher)"),
            (["--goal", "auc"], "auc >= 0.70"),
            (["--metric", "rmse"], "no metric of binary"),
            (["--target", "nothing"], "there is no column"),
            (["--trainer", "forest"], "xgboost, linear, kmeans"),
            (["--params", '{"depth": 3}'], "no parameter 'depth'"),
            (["--trials", "3"], "say search"),
            (["--search", "--sampler", "grid"], "random and tpe"),
            (["--task", "regression"], "must be a number"),
        ):
            done = self.node.cli("train", "never", "--data", "cancer", *args, check=False)
            self.assertEqual(done.returncode, 2, args)
            self.assertIn(words, text_of(done.stderr), args)
        done = self.node.cli("train", "never", "--data", "missing", check=False)
        self.assertEqual(done.returncode, 3)
        self.assertEqual(self.node.request("GET", "/api/v1/jobs?function=never").json()["jobs"], [])

    def test_the_same_seed_tries_the_same_and_finds_the_same(self) -> None:
        found = []
        for _ in range(2):
            job = self.train("seeded", "--data", "cancer", "--search", "--trials", "6", "--seed", "7",
                             "--params", '{"rounds": 40}', "--threads", "1", "--no-baseline", "--no-warm-start")
            decisions = self.fetch(job["id"], "decisions.jsonl").splitlines()
            ends = sorted(json.dumps([end["trial"], end["rung"], end["params"], end["value"]])
                          for line in decisions if (end := json.loads(line).get("end")))
            found.append((job["result"]["best"]["params"], job["result"]["best"]["metrics"]["auc"], ends))
        self.assertEqual(found[0], found[1])
        self.assertTrue(any(json.loads(end)[:2] == [0, 2] for end in found[0][2]))  # the control went to the end

    def fetch(self, job: str, name: str) -> str:
        return self.node.request("GET", f"/api/v1/jobs/{job}/file?name={name}").body.decode()

    def test_killed_at_random_moments_a_search_goes_on(self) -> None:
        args = ["--data", "cancer", "--search", "--trials", "9", "--seed", "11", "--params", '{"rounds": 60}',
                "--threads", "1", "--no-baseline"]
        job = self.begin("killed", *args)
        for _ in range(4):
            time.sleep(random.uniform(0.2, 1.5))
            self.node.kill()
            self.node.start()
        done = self.until_over(job)
        self.assertEqual(done["state"], "done", done)
        whole = self.train("whole", *args)
        self.assertEqual(done["result"]["best"], {**whole["result"]["best"], "job": done["result"]["best"]["job"]})
        self.assertEqual(done["result"]["trials"], whole["result"]["trials"])
        ids = [part["id"] for part in self.parts(job)]
        self.assertEqual(len(ids), len(self.parts(whole["id"])))

    def test_cancelled_in_the_middle_all_of_it_ends(self) -> None:
        job = self.begin("cancelled", "--data", "cancer", "--search", "--trials", "60", "--threads", "1",
                         "--params", '{"rounds": 2000, "early_stop": 0}')
        wait_until(lambda: self.parts(job), "trials run", PATIENCE)
        self.node.cli("jobs", "cancel", job)
        self.assertEqual(self.job(job)["state"], "cancelled")
        for part in self.parts(job):
            self.assertIn(part["state"], OVER)
        self.assertNotIn(job, [part["parent"] for part in self.running()])

    def running(self) -> list[dict]:
        return self.node.request("GET", "/api/v1/jobs?state=running").json()["jobs"]

    def test_two_at_once_share_the_node(self) -> None:
        ended: dict[str, dict] = {}

        def one(name: str) -> None:
            ended[name] = self.train(name, "--data", "cancer", "--search", "--trials", "4", "--seed", "3",
                                     "--params", '{"rounds": 30}', "--threads", "1")

        threads = [threading.Thread(target=one, args=(name,)) for name in ("left", "right")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(ended["left"]["result"]["best"]["params"], ended["right"]["result"]["best"]["params"])

    def test_a_job_is_followed_live(self) -> None:
        job = self.begin("live", "--data", "cancer", "--search", "--trials", "3", "--params", '{"rounds": 30}')
        reply = self.node.request("GET", f"/api/v1/jobs/{job}/events")
        self.assertEqual(reply.status, 200)
        events = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]
        self.assertGreater(len(events), 1)
        self.assertEqual(events[-1]["state"], "done")
        self.assertTrue(all(event["id"] == job for event in events))
        self.assertTrue(any(event["progress"]["metrics"].get("best") for event in events))

    def test_help_lists_the_metrics(self) -> None:
        said = text_of(self.node.cli("help", "metrics").stdout)
        for name in ("auc", "log_loss", "rmse", "ndcg", "inertia"):
            self.assertIn(name, said)
