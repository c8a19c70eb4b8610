"""What the built-in trainers are worth on known data, as they come: the mean over ten splits, each with its own seed."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import numpy as np
from case import NodeCase
from jobs_test import OVER
from node import ROOT, wait_until
from python_test import text_of

SEEDS = range(10)
DATASETS = ROOT / "build" / "datasets"
PATIENCE = 900


class AccuracyTest(NodeCase):
    arguments = ("--index-url", "off")

    @classmethod
    def setUpClass(cls) -> None:
        subprocess.run([sys.executable, ROOT / "scripts" / "make_datasets.py", DATASETS], check=True)
        super().setUpClass()

    def begin(self, name: str, file: str, seed: int, *args: str, put: tuple[str, ...] = ()) -> str:
        data = f"{name}-{seed}"
        self.node.cli("data", "put", data, str(DATASETS / file), "--split", f"seed={seed}", *put)
        done = self.node.cli("train", data, "--data", data, "--seed", str(seed), "--no-deploy", "--no-baseline", "--detach", *args)
        return text_of(done.stdout).strip()

    def results(self, jobs: list[str]) -> list[dict]:
        found = []
        for job in jobs:
            wait_until(lambda job=job: self.node.cli_json("jobs", "show", job)["state"] in OVER, "the training ends", PATIENCE)
            shown = self.node.cli_json("jobs", "show", job)
            self.assertEqual(shown["state"], "done", shown)
            found.append(shown["result"])
        return found

    def mean(self, metric: str, name: str, file: str, *args: str, put: tuple[str, ...] = ()) -> float:
        results = self.results([self.begin(name, file, seed, "--metric", metric, *args, put=put) for seed in SEEDS])
        values = [result["test"]["metrics"][metric]["value"] for result in results]
        self.assertGreater(len(set(values)), 1, "every seed splits otherwise")
        print(f"{name}: {metric} {statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})", flush=True)
        return statistics.mean(values)

    def test_german_credit(self) -> None:
        self.assertGreaterEqual(self.mean("auc", "credit", "credit.arff", "--target", "class"), 0.76)

    def test_breast_cancer(self) -> None:
        self.assertGreaterEqual(self.mean("accuracy", "cancer", "cancer.csv", "--target", "diagnosis"), 0.95)

    def test_digits(self) -> None:
        self.assertGreaterEqual(self.mean("accuracy", "digits", "digits.csv", "--target", "digit", "--task", "multiclass"), 0.94)

    def test_diamonds(self) -> None:
        self.assertGreaterEqual(self.mean("r2", "diamonds", "diamonds.csv", "--target", "price"), 0.97)

    def test_baskets(self) -> None:
        """Better than what is popular anyway, and surely so: above the upper bound of what that is worth."""
        args = ("--trainer", "mf", "--target", "item", "--group", "basket")
        results = self.results([self.begin("baskets", "baskets.csv", seed, *args) for seed in SEEDS])
        recalls = [result["test"]["metrics"]["recall_at_10"]["value"] for result in results]
        popular = [result["baselines"]["popular"]["test"]["recall_at_10"]["high"] for result in results]
        self.assertGreater(len(set(recalls)), 1, "every seed splits otherwise")
        print(f"baskets: recall@10 {statistics.mean(recalls):.4f}, popular at most {statistics.mean(popular):.4f}", flush=True)
        self.assertGreater(statistics.mean(recalls), statistics.mean(popular))

    def test_wine_has_three_clusters(self) -> None:
        """Of all rows, as the version that came of it names their clusters."""
        from sklearn.metrics import adjusted_rand_score

        args = ("--trainer", "kmeans", "--params", json.dumps({"clusters": 3}), "--task", "clustering", "--drop", "cultivar")
        self.results([self.begin("wine", "wine.csv", seed, *args) for seed in SEEDS])
        lines = (DATASETS / "wine.csv").read_text().splitlines()
        names = lines[0].split(",")[:-1]
        rows = np.array([line.split(",") for line in lines[1:]])
        values = rows[:, :-1].astype(np.float32)
        asked = json.dumps({name: [float(value) for value in values[:, i]] for i, name in enumerate(names)}).encode()
        scores = []
        for seed in SEEDS:
            reply = self.node.request("POST", f"/functions/wine-{seed}@1", asked)
            self.assertEqual(reply.status, 200, reply.body)
            scores.append(adjusted_rand_score(rows[:, -1], reply.json()["cluster"]))
        print(f"wine: ARI {statistics.mean(scores):.4f} ({min(scores):.4f} to {max(scores):.4f})", flush=True)
        self.assertGreaterEqual(statistics.mean(scores), 0.85)
