"""Recommendations, from baskets to what a shop shows: trained to a goal, served, held against what is popular anyway."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

from case import NodeCase
from data_test import write_table
from node import ROOT
from python_test import text_of

DATASETS = ROOT / "build" / "datasets"
PAIRS = ("--trainer", "mf", "--target", "item", "--group", "basket")


class RecommendationTest(NodeCase):
    @classmethod
    def setUpClass(cls) -> None:
        subprocess.run([sys.executable, ROOT / "scripts" / "make_datasets.py", DATASETS], check=True)
        super().setUpClass()
        cls.rows = [line.split(",") for line in (DATASETS / "baskets.csv").read_text().splitlines()[1:]]
        cls.node.cli("data", "put", "baskets", str(DATASETS / "baskets.csv"), "--split", "seed=1")

    def train(self, name: str, *args: str, code: int = 0) -> dict:
        done = self.node.cli("train", name, *args, "--json", check=False)
        self.assertEqual(done.returncode, code, done.stderr.decode() + done.stdout.decode())
        return json.loads(done.stdout)

    def refused(self, *args: str) -> str:
        done = self.node.cli("train", "never", *args, check=False)
        self.assertNotEqual(done.returncode, 0, text_of(done.stdout))
        return done.stderr.decode()

    def test_from_baskets_to_a_goal_and_to_recommendations(self) -> None:
        job = self.train("shop", "--data", "baskets", *PAIRS, "--goal", "recall_at_10 >= 0.45", "--no-search", "--seed", "1")
        result = job["result"]
        self.assertEqual(result["outcome"], "goal_reached", result)
        self.assertTrue(result["gate"]["passed"], result["gate"])
        popular = result["baselines"]["popular"]["test"]["recall_at_10"]
        own = result["test"]["metrics"]["recall_at_10"]
        self.assertLess(popular["low"], popular["value"])
        self.assertGreater(own["low"], popular["value"])
        self.assertIn("ndcg_at_10", result["test"]["metrics"])
        self.assertEqual(job["training"]["train"]["task"], "recommendation")

        said = self.node.request("POST", "/functions/shop", json.dumps({"basket": [0, 17, 10**9]}).encode()).json()
        self.assertEqual([len(items) for items in said["items"]], [10, 10, 10])
        for items, scores in zip(said["items"], said["scores"]):
            self.assertEqual(len(set(items)), 10)
            self.assertEqual(scores, sorted(scores, reverse=True))
        # Whom nobody knows gets what is popular, about in the order of all rows.
        counts = [item for item, _ in Counter(item for _, item in self.rows).most_common(15)]
        self.assertLessEqual(set(said["items"][2]), set(counts))
        # Most of what a basket holds was trained on, and is not recommended again.
        for basket, items in zip(("0", "17"), said["items"]):
            held = {item for user, item in self.rows if user == basket}
            self.assertLess(len(held & set(items)), len(held) / 2)

        self.node.cli("jobs", "get", job["id"], "--output", str(self.folder / "made"))
        parity = json.loads((self.folder / "made" / "report.json").read_text())["parity"]
        self.assertGreaterEqual(parity["rows"], 1000)
        self.assertEqual(parity["label_mismatches"], 0)

        self.assertIn("It recommends values of 'item'", text_of(self.node.cli("card", "shop@1").stdout))

        # The next version answers the same users; on the same users they are compared.
        more = self.train("shop", "--data", "baskets", *PAIRS, "--params", '{"factors": 1, "lambda": 0.9}', "--seed", "2")
        gate = more["result"]["gate"]
        self.assertFalse(gate["passed"])
        self.assertIn("improvement", [check["check"] for check in gate["checks"]])

    def test_a_later_version_is_rolled_out_on_held_out_users(self) -> None:
        first = self.train("later", "--data", "baskets", *PAIRS, "--seed", "1", "--goal", "recall_at_10 >= 0.45", "--no-search")
        self.assertEqual(first["rollout"]["state"], "promoted", first["rollout"])
        gate = {"require": "not_worse", "margin": 0.1, "max_slowdown": 0, "min_rows": 50}
        plan = {"min_time": "0s", "max_wait": "0s", "min_samples": 50, "latency_margin": 100, "latency_floor": "1s"}
        self.node.cli("configure", "later", f"gate={json.dumps(gate)}", f"rollout={json.dumps(plan)}")
        second = self.train("later", "--data", "baskets", *PAIRS, "--seed", "2", "--goal", "recall_at_10 >= 0.45", "--no-search")
        self.assertTrue(second["result"]["gate"]["passed"], second["result"]["gate"])
        self.assertEqual((second["rollout"]["state"], second["rollout"].get("judged_on")), ("promoted", "held-out rows"), second["rollout"])

    def test_a_search_has_a_space_of_its_own(self) -> None:
        job = self.train("searched", "--data", "baskets", *PAIRS, "--search", "--trials", "4", "--seed", "1", "--no-deploy")
        self.assertEqual(set(job["training"]["space"]), {"factors", "lambda", "alpha"})
        self.assertEqual(job["result"]["trials"], 4)

    def test_names_and_amounts_of_any_kind(self) -> None:
        rows = [(f"user {user}", item, 1 + (user * item) % 3) for user in range(60) for item in range(user % 2, 30, 2) if (user + item) % 5]
        write_table(self.folder / "named.csv", ["who", "what", "much"], rows)
        self.node.cli("data", "put", "named", str(self.folder / "named.csv"), "--split", "seed=2")
        args = ("--data", "named", "--trainer", "mf", "--target", "what", "--group", "who", "--column", "much")
        job = self.train("named", *args, "--params", '{"top": 3, "factors": 4}')
        self.assertEqual(job["training"]["train"]["columns"], ["much"])
        said = self.node.request("POST", "/functions/named@1", json.dumps({"who": ["user 4", "nobody"]}).encode()).json()
        self.assertEqual([len(items) for items in said["items"]], [3, 3])
        self.assertTrue(all(item % 2 == 0 for item in said["items"][0]), said)
        write_table(self.folder / "owed.csv", ["who", "what", "much"], [*rows, ("user 1", 3, -2)])
        self.node.cli("data", "put", "owed", str(self.folder / "owed.csv"), "--split", "valid=0.3,test=0,seed=5")
        self.assertIn("much", self.refused("--data", "owed", *args[2:]))

    def test_what_fits_no_recommendation_is_refused(self) -> None:
        self.assertIn("needs a group", self.refused("--data", "baskets", "--trainer", "mf", "--target", "item"))
        self.assertIn("mf does no", self.refused("--data", "baskets", *PAIRS, "--task", "multiclass"))
        self.assertIn("recall_at_10", self.refused("--data", "baskets", *PAIRS, "--metric", "auc"))
        self.node.cli("data", "put", "grouped", str(DATASETS / "baskets.csv"), "--group", "basket")
        self.assertIn("rows are split by 'basket'", self.refused("--data", "grouped", *PAIRS))
        write_table(self.folder / "one.csv", ["basket", "item"], [(user, "tea") for user in range(50)])
        self.node.cli("data", "put", "one", str(self.folder / "one.csv"))
        self.assertIn("nothing to choose between", self.refused("--data", "one", *PAIRS))
        self.assertIn("recall_at_10", text_of(self.node.cli("help", "metrics").stdout))
