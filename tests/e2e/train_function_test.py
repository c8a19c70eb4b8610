"""Trainings by the train(ctx) of users' functions: from scikit-learn to a version that serves; liars, and kills in the middle."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
from jobs_test import OVER
from keys_test import KeyedCase
from node import ROOT, wait_until
from python_test import WHEELS, PythonCase, text_of
from sklearn.datasets import load_breast_cancer
from training_test import PATIENCE, SPLIT, cancer

SCIKIT = ["numpy==1.26.4", "scipy==1.15.3", "scikit-learn==1.5.2", "onnx==1.17.0", "protobuf==5.29.6",
          "skl2onnx==1.18.0"]


def scikit_files() -> dict[str, str | bytes]:
    """scikit-learn and its converter, as a function brings them; fetched once."""
    folder = WHEELS / "scikit"
    if not (folder / "complete").exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", "3.11",
             "-d", str(folder), *SCIKIT],
            check=True,
        )
        (folder / "complete").touch()
    wheels = {f"wheels/{wheel.name}": wheel.read_bytes() for wheel in folder.glob("*.whl")}
    return {"requirements.txt": "\n".join(SCIKIT), "mayfly.toml": 'memory = "1GiB"\n', **wheels}


def documented() -> str:
    """The function that docs/python-training.md shows."""
    text = (ROOT / "docs" / "python-training.md").read_text()
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


# What it does besides is a parameter.
LIARS = """
import os
import time
import numpy as np
import function_of_the_docs as honest

def train(ctx):
    how = ctx.params.get("how")
    if how == "garbage":
        path = os.path.join(ctx.scratch, "model.onnx")
        open(path, "wb").write(os.urandom(5000))
        return ctx.result(onnx=path, predict=lambda rows: np.zeros((rows.rows, 2)))
    if how == "steps":
        steps(ctx)
    made = honest.train(ctx)
    if how == "lie":
        return ctx.result(onnx=made.onnx, predict=lambda rows: 1 - made.predict(rows))
    return made

def steps(ctx):
    done = 0
    if ctx.restore():
        done = int(open(os.path.join(ctx.restore(), "done")).read())
        print(f"goes on from step {done}")
    folder = os.path.join(ctx.scratch, "checkpoint")
    os.makedirs(folder)
    for step in range(done, 12):
        time.sleep(0.25)
        ctx.progress((step + 1) / 12, f"step {step + 1}")
        ctx.metric("steps", step + 1)
        with open(os.path.join(folder, "done"), "w") as file:
            file.write(str(step + 1))
        ctx.checkpoint(folder)
"""


class TrainFunctionTest(PythonCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cancer(cls.folder / "cancer.csv")
        cls.node.cli("data", "put", "cancer", str(cls.folder / "cancer.csv"), "--target", "class", "--split", SPLIT)
        cls.bring("logistic", documented(), scikit_files())
        cls.bring("liar", LIARS, {**scikit_files(), "function_of_the_docs.py": documented()})
        cls.bring("untrained", "def predict(inputs, state, ctx):\n    return 1\n", {})

    @classmethod
    def bring(cls, name: str, code: str, files: dict[str, str | bytes]) -> None:
        folder = cls.folder / f"of-{name}"
        for path, content in {"function.py": code, **files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
        cls.node.cli("deploy", name, str(folder))

    def train(self, name: str, function: str, *args: str) -> dict:
        return self.node.cli_json("train", name, "--data", "cancer", "--trainer-function", function, "--seed", "1", *args)

    def fail(self, *args: str) -> str:
        done = self.node.cli("train", "never", "--data", "cancer", *args, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return text_of(done.stderr)

    def test_a_function_of_scikit_learn_trains_what_is_served(self) -> None:
        done = self.node.cli("train", "tumor", "--data", "cancer", "--trainer-function", "logistic", "--seed", "1",
                             "--goal", "accuracy >= 0.85", "--json")
        self.assertIn("function logistic@1", text_of(done.stderr))
        job = json.loads(done.stdout)
        result = job["result"]
        self.assertEqual((result["outcome"], result["version"]), ("goal_reached", 1), result)
        code = job["training"]["code"]
        self.assertEqual(code["function"], "logistic@1")
        described = self.node.cli_json("describe", "logistic@1")
        self.assertEqual(code["artifact"], described["artifact"])
        self.assertEqual(code["environment"], described["environment"]["digest"])
        self.assertEqual(described["measured"]["entries"], ["train"])
        # The version's record says so, too, and its card.
        trainer = self.node.cli_json("card", "tumor@1")["training"]["trainer"]
        self.assertIn("scikit-learn==1.5.2", trainer["code"].pop("packages"))
        self.assertEqual((trainer["kind"], trainer["function"], trainer["code"]), ("function", "logistic@1", code))
        page = self.node.request("GET", "/api/v1/functions/tumor/versions/1/card?format=html").body.decode()
        self.assertIn("scikit-learn==1.5.2", page)
        self.assertIn(code["artifact"], page)
        self.assertGreater(self.right_answers("tumor"), 0.9)

    def right_answers(self, name: str) -> float:
        data = load_breast_cancer()
        body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": list(data.data.shape), "data": data.data.ravel().tolist()}]}
        reply = self.node.request("POST", f"/v2/models/{name}/infer", json.dumps(body).encode())
        self.assertServed(reply)
        said = np.reshape(reply.output("probabilities"), (-1, 2)).argmax(axis=1)
        names = sorted(data.target_names)  # classes are sorted by their names
        return float(np.mean([names[place] == data.target_names[true] for place, true in zip(said, data.target)]))

    def test_a_search_varies_what_a_function_takes(self) -> None:
        job = self.train("searched", "logistic", "--search", "--trials", "4", "--no-baseline", "--no-deploy",
                         "--space", '{"c": {"low": 0.001, "high": 10, "log": true}}')
        self.assertEqual(job["result"]["trials"], 4)
        parts = self.node.request("GET", f"/api/v1/jobs?parent={job['id']}").json()["jobs"]
        self.assertEqual({part["state"] for part in parts}, {"done"}, parts)
        tried = {self.node.cli_json("jobs", "show", part["id"])["result"]["params"].get("c") for part in parts if part["kind"] == "trial"}
        self.assertEqual(len(tried), 4, tried)

    def test_who_predicts_other_than_the_model_is_refused_with_the_row(self) -> None:
        said = self.fail("--trainer-function", "liar", "--params", '{"how": "lie"}')
        self.assertIn("parity_failed", said)
        self.assertIn("worst_radius", said)
        said = self.fail("--trainer-function", "liar@1", "--params", '{"how": "garbage"}')
        self.assertIn("model.onnx", said)
        self.assertEqual(self.node.request("GET", "/api/v1/functions/never").status, 404)

    def test_what_cannot_train_is_refused_before_anything_runs(self) -> None:
        for args, words in (
            (["--trainer-function", "untrained"], "untrained@1 has no function train(ctx)"),
            (["--trainer-function", "nobody"], "no function 'nobody'"),
            (["--trainer-function", "logistic@7"], "no version 7"),
            (["--trainer-function", "other/logistic"], "the key says which project"),
            (["--trainer", "xgboost", "--trainer-function", "logistic"], "the trainer is 'function' then"),
            (["--trainer", "function"], "needs 'function'"),
            (["--trainer-function", "logistic", "--search"], "no space of its own"),
        ):
            self.assertIn(words, self.fail(*args), args)
        self.assertEqual(self.node.request("GET", "/api/v1/jobs?function=never").json()["jobs"], [])

    def test_killed_in_the_middle_it_goes_on_from_its_checkpoint(self) -> None:
        job = text_of(self.node.cli("train", "killed", "--data", "cancer", "--trainer-function", "liar", "--params",
                                    '{"how": "steps"}', "--no-baseline", "--no-deploy", "--detach").stdout).strip()
        for after in (2, 6):
            wait_until(lambda: self.steps(job) >= after, f"step {after} of {job}", PATIENCE)
            self.node.kill()
            self.node.start()
        wait_until(lambda: self.node.cli_json("jobs", "show", job)["state"] in OVER, f"job {job} ends", PATIENCE)
        done = self.node.cli_json("jobs", "show", job)
        self.assertEqual((done["state"], done["result"]["outcome"]), ("done", "finished"), done)
        went_on = re.findall(r"goes on from step (\d+)", self.logs("killed") + self.node.log.read_text())
        self.assertTrue(went_on and int(went_on[-1]) >= 6, went_on)

    def steps(self, job: str) -> int:
        parts = self.node.request("GET", f"/api/v1/jobs?parent={job}").json()["jobs"]
        return max((part["progress"]["metrics"].get("steps", 0) for part in parts), default=0)


ONLY_TRAINS = "def train(ctx):\n    raise RuntimeError('out of luck')\n"


class TrainFunctionKeysTest(KeyedCase):
    arguments = ("--index-url", "off")

    def test_only_functions_of_the_own_project_that_a_key_may_invoke(self) -> None:
        cancer(self.folder / "cancer.csv", rows=200)
        (self.folder / "function").mkdir()
        (self.folder / "function" / "function.py").write_text(ONLY_TRAINS)
        every = "invoke:*,read:*,deploy:*,data:*"
        keys = [self.make(every, "--project", project)["key"] for project in ("a", "b")]
        for key in keys:
            self.cli_with(key, "data", "put", "cancer", str(self.folder / "cancer.csv"), "--target", "class", "--split", SPLIT)
        self.cli_with(keys[0], "deploy", "own", str(self.folder / "function"))
        wish = {"data": "cancer", "trainer": "function", "function": "own"}
        path = "/api/v1/functions/tumor/trainings"
        self.assertRefused(self.ask("POST", path, keys[1], wish), 404, "unknown_function", "no function 'own'")
        self.assertRefused(self.ask("POST", path, keys[1], wish | {"function": "a/own"}), 400, "bad_request")
        narrow = self.make("deploy:tumor,read:cancer,invoke:tumor", "--project", "a")["key"]
        self.assertRefused(self.ask("POST", path, narrow, wish), 403, "missing_scope", "invoke:own")
        accepted = self.ask("POST", path, keys[0], wish)
        self.assertEqual(accepted.status, 202, accepted.body)
        job = accepted.json()
        self.assertEqual(job["training"]["train"]["function"], "own@1")
        shown = f"/api/v1/jobs/{job['id']}"
        wait_until(lambda: self.ask("GET", shown, keys[0]).json()["state"] == "failed", "the training fails", PATIENCE)
        failed = self.ask("GET", shown, keys[0]).json()
        self.assertEqual(failed["reason"], "function_error", failed)
