"""From a training to the end of its rollout: held-out rows where nobody asks, exits, and what comes while one is under way."""

from __future__ import annotations

import json

from case import NodeCase
from node import wait_until
from training_test import SPLIT, cancer

GATE = 'gate={"require":"not_worse","margin":0.1,"max_slowdown":0,"min_rows":50}'
# Nobody asks the function: held-out rows decide at once.
AT_ONCE = {"min_time": "0s", "max_wait": "0s", "min_samples": 50, "latency_margin": 100}


class TrainRolloutTest(NodeCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cancer(cls.folder / "cancer.csv")
        cls.node.cli("data", "put", "cancer", str(cls.folder / "cancer.csv"), "--target", "class", "--split", SPLIT)

    def train(self, name: str, *args: str, codes: tuple[int, ...] = (0,)) -> dict:
        done = self.node.cli(
            "train", name, "--data", "cancer", "--no-baseline", "--seed", "1", "--goal", "auc >= 0.9", *args, "--json", check=False
        )
        self.assertIn(done.returncode, codes, done.stderr.decode() + done.stdout.decode())
        return json.loads(done.stdout)

    def configure(self, name: str, **plan: object) -> None:
        self.node.cli("configure", name, GATE, f"rollout={json.dumps(AT_ONCE | plan)}")

    def test_held_out_rows_decide_where_nobody_asks(self) -> None:
        self.train("quiet")
        self.configure("quiet")
        self.train("quiet", "--params", '{"eta": 0.28}')
        wait_until(lambda: self.node.cli_json("describe", "quiet")["version"] == 2, "it has climbed", 60)
        lines = [line["change"] for line in self.node.cli_json("rollout", "quiet")["decisions"]]
        print(json.dumps(lines)[:3000])


if __name__ == "__main__":
    import unittest
    unittest.main()
