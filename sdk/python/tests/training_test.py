"""Datasets and trainings, with each client, against a real node."""

from __future__ import annotations

import unittest
from pathlib import Path

import pandas
from sklearn.datasets import load_breast_cancer

from sdk_case import SdkCase

import mayfly
from mayfly._training import rollout_of


def cancer() -> pandas.DataFrame:
    found = load_breast_cancer(as_frame=True)
    frame = found.data.rename(columns=lambda name: name.replace(" ", "_"))
    frame["diagnosis"] = [str(found.target_names[kind]) for kind in found.target]
    return frame


class TrainingTest(SdkCase):
    def name(self, of: str) -> str:
        return f"{of}-{'async' if self.asynchronous else 'sync'}"

    def test_a_frame_becomes_a_dataset_and_a_version(self) -> None:
        frame, name = cancer(), self.name("frame")
        snapshot = self.mayfly.put(name, frame, target="diagnosis", split={"test": 0.3, "seed": 7})
        self.assertEqual((str(snapshot), sum(snapshot.rows.values())), (f"{name}@1", len(frame)))
        self.assertEqual(self.mayfly.put(name, frame, target="diagnosis").number, 1)  # it is there already
        told: list[str] = []
        job = self.mayfly.train(name, snapshot, goal="auc >= 0.9", seed=1, params={"rounds": 40}, on_progress=told.append)
        self.assertEqual((job.state, job.result["outcome"]), ("done", "goal_reached"))
        self.assertTrue(any("running" in line for line in told), told)
        self.assertEqual(job.result["version"], 1)
        self.assertEqual(job.result["rollout"]["state"], "promoted")
        reply = self.mayfly.call(name, frame.drop(columns="diagnosis").astype("float32"))
        right = sum(said == true for said, true in zip(reply["label"], frame["diagnosis"], strict=True))
        self.assertGreater(right, 0.95 * len(frame))
        more = self.mayfly.put(name, frame.iloc[:100], append=True)
        self.assertEqual(more.number, 2)

    def test_how_a_rollout_stands_is_told_by_its_state_and_its_decisions(self) -> None:
        running = {"state": "running", "version": 2, "decision": {"why": "so", "findings": []}, "decisions": []}
        self.assertEqual(rollout_of(running, 2), {"state": "running", "why": "so"})
        self.assertEqual(rollout_of({**running, "held": "approve it"}, 2), {"state": "held", "why": "approve it"})
        lines = [{"change": {"version": 2, "what": "rollback", "why": "worse", "judged_on": "held-out rows"}}]
        ended = {"state": "none", "decisions": lines}
        self.assertEqual(rollout_of(ended, 2), {"state": "rolled_back", "why": "worse", "judged_on": "held-out rows"})
        self.assertEqual(rollout_of(ended, 1)["state"], "running")
        unsaid = {"state": "none", "decisions": [{"change": {"version": 2, "what": "start"}}, *lines]}
        self.assertEqual(rollout_of(unsaid, 2)["state"], "ended")

    def test_a_file_is_put_and_trained_on_at_once(self) -> None:
        path = self.folder / f"{self.name('cancer')}.csv"
        cancer().to_csv(path, index=False)
        job = self.mayfly.train(self.name("file"), path, target="diagnosis", trainer="linear", deploy=False)
        self.assertEqual(job.result["outcome"], "finished")
        started = self.mayfly.train(self.name("file"), self.name("file"), params={"rounds": 20}, wait=False)
        self.assertEqual(started.wait().state, "done")

    def test_what_cannot_be_says_why(self) -> None:
        name = self.name("never")
        self.assertFails(mayfly.InvalidArgument, self.mayfly.put, name, Path("rows.xls"), text="does not say")
        self.assertFails(mayfly.InvalidArgument, self.mayfly.put, name, Path("missing.csv"), text="no such file")
        self.assertFails(mayfly.InvalidArgument, self.mayfly.put, name, [1, 2], text="no table")
        self.assertFails(mayfly.NotFound, self.mayfly.train, name, "nothing", text="nothing")
        self.mayfly.put(name, cancer(), target="diagnosis")
        self.assertFails(mayfly.MayflyError, self.mayfly.train, name, name, goal="auc <= 0.9", text="higher is better")
        twice = {"trainer": "mf", "target": "diagnosis", "group": "diagnosis"}
        self.assertFails(mayfly.MayflyError, self.mayfly.train, name, name, **twice, text="both the users and the items")
        self.assertFails(mayfly.NotFound, self.mayfly.train, name, name, trainer_function="nobody", text="nobody")


class AwaitedTrainingTest(TrainingTest):
    asynchronous = True


if __name__ == "__main__":
    unittest.main()
