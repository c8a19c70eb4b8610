"""The trainer of images that comes along: fetched when a project first asks for it, what it is worth on digits, and killed in the middle."""

from __future__ import annotations

import json

import numpy as np
from case import NodeCase
from jobs_test import OVER
from node import wait_until
from python_test import text_of
from sklearn.datasets import load_digits
from training_test import SPLIT, cancer

PATIENCE = 600
BYTES_OF_A_SHADE = 15  # digits have shades from 0 to 16


class CnnTest(NodeCase):
    """`digits` was trained by the first test that needs it."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        digits = load_digits()
        cls.images = (digits.images * BYTES_OF_A_SHADE).astype(np.uint8)[..., None]
        cls.labels = digits.target
        np.savez(cls.folder / "digits.npz", image=cls.images, digit=digits.target.astype(np.int64))
        cls.node.cli("data", "put", "digits", str(cls.folder / "digits.npz"), "--target", "digit", "--split", SPLIT)
        cls.told: set[str] = set()
        cls.whole = cls.end_of(cls.begin("digits", "--metric", "accuracy"), cls.told)

    @classmethod
    def begin(cls, name: str, *args: str) -> str:
        done = cls.node.cli("train", name, "--data", "digits", "--trainer", "cnn", "--seed", "1", "--detach", *args)
        return text_of(done.stdout).strip()

    @classmethod
    def shown(cls, job: str) -> dict:
        return cls.node.cli_json("jobs", "show", job)

    @classmethod
    def end_of(cls, job: str, told: set[str] | None = None, until: str = "") -> dict:
        """As it is when it is over, or when it says `until`."""
        def over() -> bool:
            now = cls.shown(job)
            if told is not None:
                told.add(now["progress"]["text"])
            return now["state"] in OVER or bool(until and until in now["progress"]["text"])

        wait_until(over, f"training {job} ends", PATIENCE)
        return cls.shown(job)

    def test_digits_are_told_apart(self) -> None:
        self.assertEqual(self.whole["state"], "done", self.whole)
        result = self.whole["result"]
        accuracy = result["test"]["metrics"]["accuracy"]["value"]
        print(f"digits by cnn: accuracy {accuracy:.4f} of {result['test']['rows']} rows, {self.whole['ran_s']:.0f} s", flush=True)
        self.assertGreaterEqual(accuracy, 0.97)
        self.assertEqual(result["version"], 1)
        body = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": list(self.images.shape), "data": self.images.ravel().tolist()}]}
        reply = self.node.request("POST", "/v2/models/digits/infer", json.dumps(body).encode())
        self.assertServed(reply)
        self.assertGreater(np.mean(np.array(reply.output("label")) == self.labels), 0.97)

    def test_its_packages_are_fetched_once_and_that_is_seen(self) -> None:
        self.assertTrue(any("mayfly.cnn is published first" in text for text in self.told), self.told)
        self.assertNotIn("code", self.whole["training"])
        code = self.whole["result"]["code"]
        self.assertEqual(code["function"], "mayfly.cnn@1")
        record = self.node.cli_json("card", "digits@1")["training"]["trainer"]
        packages = record["code"].pop("packages")
        self.assertTrue(any(package.startswith("debian: python3-torch ") for package in packages), packages)
        self.assertEqual((record["kind"], record["code"]), ("cnn", code))
        # From now on it is there, and the plan says so.
        again = self.end_of(self.begin("again", "--no-deploy", "--params", '{"epochs": 1}'))
        self.assertEqual(again["training"]["code"], code)
        self.assertEqual(again["state"], "done", again)
        self.assertEqual(len(self.node.request("GET", "/api/v1/functions/mayfly.cnn/versions").json()["versions"]), 1)

    def test_killed_in_the_middle_it_makes_the_same_model(self) -> None:
        args = ("--no-deploy", "--threads", "1", "--params", '{"epochs": 60, "early_stop": 0}')
        job = self.begin("killed", *args)
        wait_until(lambda: any("epoch" in text for text in self.parts_say(job)), "an epoch is over", PATIENCE)
        self.assertEqual(self.shown(job)["state"], "running")
        self.node.kill()
        self.node.start()
        killed, whole = (self.end_of(one) for one in (job, self.begin("straight", *args)))
        for done in (killed, whole):
            self.assertEqual(done["state"], "done", done)
        self.assertEqual(*({file["name"]: file["sha256"] for file in done["files"]}["model.onnx"] for done in (killed, whole)))

    def parts_say(self, job: str) -> list[str]:
        parts = self.node.request("GET", f"/api/v1/jobs?parent={job}").json()["jobs"]
        return [part["progress"]["text"] for part in parts]

    def test_what_does_not_go_together_is_refused_before_it_runs(self) -> None:
        cancer(self.folder / "cancer.csv", rows=200)
        self.node.cli("data", "put", "cancer", str(self.folder / "cancer.csv"), "--target", "class")
        for data, trainer, words in (
            ("cancer", "cnn", "cnn cannot learn from column 'mean_radius', which is of type number; it takes image"),
            ("digits", "xgboost", "xgboost cannot learn from column 'image', which is of type image"),
        ):
            done = self.node.cli("train", "never", "--data", data, "--trainer", trainer, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(words, text_of(done.stderr))
        self.assertEqual(self.node.request("GET", "/api/v1/jobs?function=never").json()["jobs"], [])
