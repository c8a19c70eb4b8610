"""Versions that climb by themselves: promoted, held, rolled back, across restarts, and with people who decide otherwise."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import onnx
from case import NodeCase
from node import tensor
from onnx import TensorProto, helper, numpy_helper

SCORES = [float(i % 7) for i in range(64)]

# Small enough for a test; times of models this small are noise.
QUICK = {"min_samples": 20, "min_time": "200ms", "latency_floor": "2s"}


def scorer(path: Path, scores: list[float], fails_from: int = 64, output: str = "score") -> Path:
    """x -> scores[x]; the run fails for x >= fails_from."""
    rows = numpy_helper.from_array(np.array(scores[:fails_from], np.float32), "scores")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["scores", "x"], [output])],
        "scorer",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1])],
        [rows],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Callers:
    """Threads that ask all the time, and what they got."""

    def __init__(self, node, name: str):
        self.failed: list = []
        self.answered = 0
        self._node, self._name, self._stop = node, name, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(3)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, first: int) -> None:
        x = first
        while not self._stop.is_set():
            x = (x + 3) % 64
            try:
                reply = self._node.infer(self._name, tensor("x", "INT64", [1], [x]))
            except OSError as lost:
                self.failed.append(repr(lost))
                return
            if reply.status == 200:
                self.answered += 1
            else:
                self.failed.append((reply.status, reply.body))


class RolloutTest(NodeCase):
    def setUp(self) -> None:
        self.name = f"r{self.id().rsplit('.', 1)[-1][5:40].replace('_', '-')}"
        self.node.deploy(self.name, scorer(self.folder / "champion.onnx", SCORES))

    def plan(self, **changes) -> str:
        path = self.folder / "plan.json"
        path.write_text(json.dumps(QUICK | changes))
        return str(path)

    def begin(self, model: Path, **changes) -> None:
        said = self.node.cli("deploy", self.name, str(model), "--rollout", self.plan(**changes)).stdout.decode()
        self.assertIn("is being rolled out", said)

    def rollout(self) -> dict:
        return self.node.cli_json("rollout", self.name)

    def decisions(self) -> list[str]:
        """Oldest first."""
        return [line["change"]["what"] for line in reversed(self.rollout()["decisions"])]

    def champion(self) -> int:
        return self.node.cli_json("traffic", self.name)["champion"]

    def wait_for_end(self) -> list[str]:
        self.node.wait_until(lambda: self.rollout()["state"] == "none", "the rollout ends")
        return self.decisions()

    def test_a_good_version_climbs_to_everything_and_no_caller_notices(self) -> None:
        with Callers(self.node, self.name) as callers:
            self.begin(scorer(self.folder / "good.onnx", SCORES), steps=["shadow", 25, 100])
            self.assertEqual(self.wait_for_end(), ["start", "promote", "promote", "done"])
        self.assertEqual(callers.failed, [])
        self.assertEqual(self.champion(), 2)
        step = self.rollout()["decisions"][1]["change"]  # out of "25 %", with its numbers
        samples = next(f for f in step["findings"] if f["check"] == "samples")
        self.assertGreaterEqual(samples["challenger"], 20)
        shown = self.node.cli("rollout", self.name).stdout.decode()
        self.assertIn("no rollout", shown)
        self.assertIn("promote", shown)

    def test_errors_roll_back_and_shadows_meet_them_before_callers_do(self) -> None:
        with Callers(self.node, self.name) as callers:
            self.begin(scorer(self.folder / "failing.onnx", SCORES, fails_from=32), steps=["shadow", 50, 100])
            self.assertEqual(self.wait_for_end(), ["start", "rollback"])
        self.assertEqual(callers.failed, [])
        self.assertEqual(self.champion(), 1)
        why = self.rollout()["decisions"][0]["change"]["why"]
        self.assertIn("errors", why)

    def test_an_output_that_is_not_finite_rolls_back(self) -> None:
        broken = scorer(self.folder / "nan.onnx", SCORES[:-1] + [float("nan")])
        with Callers(self.node, self.name):
            self.begin(broken, steps=[10, 100])
            self.assertEqual(self.wait_for_end()[-1], "rollback")
        self.assertEqual(self.champion(), 1)

    def test_shifted_outputs_hold_until_somebody_approves(self) -> None:
        shifted = scorer(self.folder / "shifted.onnx", [score + 20 for score in SCORES])
        with Callers(self.node, self.name):
            self.begin(shifted, steps=[50, 100])
            self.node.wait_until(lambda: "hold" in self.decisions(), "the rollout holds")
            self.assertEqual(self.champion(), 1)
            self.assertIn("approve it or roll back", self.node.cli("rollout", self.name).stdout.decode())
            self.node.cli("rollout", self.name, "approve")
            self.assertEqual(self.wait_for_end()[-1], "done")
        self.assertIn("approve", self.decisions())
        self.assertEqual(self.champion(), 2)

    def test_a_killed_node_goes_on_with_what_it_had_seen(self) -> None:
        plan = {"steps": [50, 100], "min_samples": 1_000_000}
        with Callers(self.node, self.name):
            self.begin(scorer(self.folder / "good.onnx", SCORES), **plan)
            self.node.wait_until(lambda: self.rollout()["requests"] > 50, "there is evidence")
        self.node.cli("rollout", self.name, "pause")  # keeps the evidence at once
        before = self.rollout()
        self.node.kill()
        self.node.start()
        after = self.rollout()
        for key in ("state", "step", "requests", "champion_requests", "paused", "plan"):
            self.assertEqual(after[key], before[key], key)
        self.node.cli("rollout", self.name, "abort")
        self.assertEqual(self.rollout()["state"], "none")
        self.assertEqual(self.node.cli_json("traffic", self.name)["weights"], {"1": 100})

    def test_whoever_moves_the_traffic_by_hand_has_decided(self) -> None:
        self.begin(scorer(self.folder / "good.onnx", SCORES), steps=["shadow", 100])
        self.node.cli("traffic", self.name, "1=60", "2=40")
        self.assertEqual(self.wait_for_end(), ["start", "ended"])
        self.assertEqual(self.node.cli_json("traffic", self.name)["weights"], {"1": 60, "2": 40})

    def test_rolling_back_ends_a_rollout_where_it_began(self) -> None:
        self.node.deploy(self.name, scorer(self.folder / "second.onnx", SCORES))
        self.begin(scorer(self.folder / "good.onnx", SCORES), steps=["shadow", 100])
        self.node.cli("rollback", self.name)
        self.assertEqual(self.rollout()["state"], "none")
        traffic = self.node.cli_json("traffic", self.name)
        self.assertEqual((traffic["champion"], traffic["shadows"]), (2, {}))

    def test_ending_a_rollout_while_it_begins_leaves_nothing_of_it(self) -> None:
        second = scorer(self.folder / "second.onnx", [1.0] * 64)
        self.node.cli("deploy", self.name, str(second), "--no-traffic")
        function = f"/api/v1/functions/{self.name}"
        body = json.dumps({"version": 2, "plan": {"steps": [5, 100]}})
        for ending in (("DELETE", f"{function}/rollout"), ("POST", f"{function}/rollback")):
            for _ in range(5):
                # It is being used, so the version is started before it gets requests.
                self.assertEqual(self.node.infer(self.name, tensor("x", "INT64", [1], [1])).status, 200)
                starting = threading.Thread(
                    target=self.node.request, args=("POST", f"{function}/rollout", body)
                )
                starting.start()
                self.node.wait_until(
                    lambda: self.node.request("GET", f"{function}/rollout").json()["state"] == "running",
                    "the rollout begins",
                )
                ended = self.node.request(*ending)
                starting.join()
                self.assertEqual(ended.status, 200, ended.body)
                traffic = self.node.cli_json("traffic", self.name)
                self.assertEqual((traffic["champion"], traffic["weights"]), (1, {"1": 100}))
                self.assertEqual(self.rollout()["state"], "none")
                self.node.cli("evict", f"{self.name}@2")

    def test_without_requests_it_holds(self) -> None:
        self.begin(scorer(self.folder / "good.onnx", SCORES), min_time="0s")
        decision = self.rollout()["decision"]
        self.assertEqual(decision["move"], "hold")
        self.assertIn("samples", [f["check"] for f in decision["findings"] if f["verdict"] == "hold"])

    def test_what_cannot_be_rolled_out_is_refused(self) -> None:
        other = scorer(self.folder / "other.onnx", SCORES, output="points")
        self.node.cli("deploy", self.name, str(other), "--no-traffic")

        def refused(*arguments: str) -> str:
            done = self.node.cli("rollout", self.name, *arguments, check=False)
            self.assertNotEqual(done.returncode, 0)
            return done.stderr.decode()

        self.assertIn("outputs", refused("start", "2"))
        self.assertIn("no version 9", refused("start", "9"))
        self.assertIn("all requests already", refused("start", "1"))
        self.assertIn("name the version", refused("start"))
        self.assertIn("no rollout under way", refused("approve"))
        self.assertIn("steps", refused("start", "2", "--plan", self.plan(steps=[50])))
        self.node.cli("deploy", self.name, str(self.folder / "champion.onnx"), "--no-traffic")
        self.assertIn("no output 'scor'", refused("start", "3", "--plan", self.plan(ranges={"scor": [0, 1]})))
        self.node.cli("rollout", self.name, "start", "3")
        self.assertIn("under way", refused("start", "3"))
        again = self.node.cli(
            "deploy", self.name, str(self.folder / "champion.onnx"), "--rollout", "auto", check=False
        )
        self.assertIn("under way", again.stderr.decode())
        self.assertEqual(self.node.versions(self.name), [1, 2, 3])  # refused before anything was published
