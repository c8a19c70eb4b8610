"""From a training to the end of its rollout: held-out rows where nobody asks, exits, and what comes while one is under way."""

from __future__ import annotations

import json

from case import NodeCase
from node import wait_until
from python_test import text_of
from training_test import SPLIT, cancer

NOT_PROMOTED, HELD = 11, 12
GATE = 'gate={"require":"not_worse","margin":0.1,"max_slowdown":0,"min_rows":50}'
# Nobody asks the function: held-out rows decide at once. Times on a loaded machine decide nothing here.
AT_ONCE = {"min_time": "0s", "max_wait": "0s", "min_samples": 50, "latency_margin": 100, "latency_floor": "1s"}


class TrainRolloutTest(NodeCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cancer(cls.folder / "cancer.csv")
        cls.node.cli("data", "put", "cancer", str(cls.folder / "cancer.csv"), "--target", "class", "--split", SPLIT)

    def train(self, name: str, *args: str, goal: str = "auc >= 0.9", codes: tuple[int, ...] = (0,)) -> dict:
        words = ("train", name, "--data", "cancer", "--no-baseline", "--no-search", "--seed", "1", "--goal", goal)
        done = self.node.cli(*words, *args, "--json", check=False)
        self.assertIn(done.returncode, codes, done.stderr.decode() + done.stdout.decode())
        return json.loads(done.stdout)

    def configure(self, name: str, **plan: object) -> None:
        self.node.cli("configure", name, GATE, f"rollout={json.dumps(AT_ONCE | plan)}")

    def decisions(self, name: str) -> list[dict]:
        return [line["change"] for line in self.node.cli_json("rollout", name)["decisions"]]

    def test_held_out_rows_decide_where_nobody_asks_and_train_waits_for_it(self) -> None:
        first = self.train("quiet")
        self.assertEqual(first["rollout"]["state"], "promoted", first["rollout"])
        self.configure("quiet")
        looks = len(self.node.request("GET", "/api/v1/datasets/cancer/snapshots/1").json()["test_looks"])
        second = self.train("quiet", "--params", '{"eta": 0.28}')
        self.assertEqual((second["rollout"]["state"], second["rollout"]["judged_on"]), ("promoted", "held-out rows"), second["rollout"])
        self.assertEqual(self.node.cli_json("describe", "quiet")["version"], 2)
        lines = self.decisions("quiet")
        self.assertTrue(all("judged on held-out rows" in line["why"] for line in lines if line["what"] in ("promote", "done")), lines)
        self.assertEqual([line["what"] for line in lines].count("promote"), 4)
        # Both were asked about 130 rows, and no look at the test split is counted but the training's own.
        rows = self.node.cli_json("usage", "--function", "quiet")["rows"]
        self.assertEqual({row["version"]: row["requests"] >= 100 for row in rows if row["version"] > 0}, {1: True, 2: True}, rows)
        now = self.node.request("GET", "/api/v1/datasets/cancer/snapshots/1").json()["test_looks"]
        self.assertEqual(len(now), looks + 1)
        self.assertEqual(len([look for look in now if look["job"] == second["id"]]), 1)
        self.assertIn("the next bound on them holds with", text_of(self.node.cli("data", "describe", "cancer@1").stdout))
        text = text_of(self.node.cli("lineage", "quiet@2").stdout)
        self.assertIn("by nobody by name", text)
        self.assertNotIn("()", text)

    def test_what_waits_for_a_person_is_held_and_what_goes_back_is_said(self) -> None:
        self.train("strict")
        self.configure("strict", min_samples=1000)
        held = self.train("strict", "--params", '{"eta": 0.28}', codes=(HELD,))
        self.assertEqual(held["rollout"]["state"], "held", held["rollout"])
        self.assertIn("130 held-out rows, of 1000 that min_samples asks for", held["rollout"]["why"])
        # The next one takes its place; nothing is dropped in silence.
        self.configure("strict", ranges={"probabilities": [0.4, 0.6]})
        back = self.train("strict", "--params", '{"eta": 0.27}', codes=(NOT_PROMOTED,))
        self.assertEqual(back["rollout"]["state"], "rolled_back", back["rollout"])
        superseded = [line for line in self.decisions("strict") if line["what"] == "superseded"]
        self.assertEqual([(line["version"], line["by"]) for line in superseded], [(2, 3)])
        self.assertEqual(self.node.cli_json("describe", "strict")["version"], 1)

    def test_registering_alone_waits_for_no_rollout(self) -> None:
        self.train("alone")
        self.configure("alone", max_wait="1h")
        done = self.train("alone", "--params", '{"eta": 0.28}', "--no-deploy")
        self.assertEqual(done["rollout"]["state"], "none")
        self.assertEqual(self.node.cli_json("rollout", "alone")["state"], "none")

    def test_versions_that_nobody_trained_here_hold_and_say_so(self) -> None:
        self.train("mixed")
        self.node.cli("export", "mixed@1", str(self.folder / "mixed"))
        (model,) = (self.folder / "mixed").rglob("model.onnx")
        self.node.cli("deploy", "mixed", str(model), "--no-traffic")
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps(AT_ONCE))
        self.node.cli("rollout", "mixed", "start", "2", "--plan", str(plan))
        wait_until(lambda: "held_out" in self.node.cli_json("rollout", "mixed"), "it says why it holds")
        about = self.node.cli_json("rollout", "mixed")
        self.assertIn("version 2 was not trained here", about["held_out"]["why"])
        self.assertIn("no held-out rows to judge on: version 2 was not trained here", about["held"])
        self.assertEqual(about["step"], 0)
        self.node.cli("rollout", "mixed", "abort")
