"""Jobs and batches, with each client, against a real node."""

from __future__ import annotations

import csv
import json
import math
import tempfile
import unittest
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pandas

import sdk_case  # noqa: F401
from node import wait_until
from scripted import CLOSE, Scripted, chunked, reply
from sdk_case import BothClients, PythonNode

import mayfly
from mayfly import TensorSpec, _frames

COUNT = """
    import json, os, time

    def run(inputs, ctx):
        at, folder = 0, ctx.restore()
        if folder:
            at = json.load(open(os.path.join(folder, "state.json")))["at"]
        state = os.path.join(ctx.scratch, "state")
        os.makedirs(state)
        while at < inputs["until"]:
            at += 1
            time.sleep(inputs.get("pause", 0))
            ctx.progress(at / inputs["until"], f"step {at}")
            ctx.metric("at", at)
            with open(os.path.join(state, "state.json"), "w") as file:
                json.dump({"at": at}, file)
            ctx.checkpoint(state)
        os.makedirs(os.path.join(ctx.output, "made"))
        with open(os.path.join(ctx.output, "made", "model.bin"), "wb") as file:
            file.write(bytes(range(256)) * inputs.get("pages", 1))
        return {"at": at}
"""
RAISES = """
    def run(inputs, ctx):
        raise ValueError("no such column")
"""
DOUBLE = """
    def predict(inputs, state, ctx):
        if inputs["x"] == 13:
            raise ValueError("unlucky")
        return [inputs["x"] if inputs["x"] is None else inputs["x"] * 2, inputs["text"], inputs["flag"]]
"""
SAME = """
    def predict(inputs, state, ctx):
        return inputs
"""
COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def flowers(rows: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(0.1, 8, (rows, 4)).round(3).astype(np.float32)


class JobCases:
    code = {"count": COUNT, "raises": RAISES}

    def test_a_run_ends_with_its_result_and_its_files(self) -> None:
        job = self.mayfly.run("count", {"until": 3, "pages": 20_000})
        self.assertEqual((job.state, job.is_over, job.result), ("done", True, {"at": 3}))
        self.assertEqual((job.function, job.status.kind, job.status.version), ("count", "run", 1))
        self.assertEqual((job.progress.fraction, job.progress.text), (1.0, "step 3"))
        self.assertEqual(job.progress.metrics, {"at": 3.0})
        ((name, size),) = [(file.name, file.size) for file in job.files]
        self.assertEqual((name, size), ("made/model.bin", 256 * 20_000))
        folder = self.place()
        made = job.download(name, folder)
        self.assertEqual(made, folder / "model.bin")
        self.assertEqual(made.read_bytes(), bytes(range(256)) * 20_000)
        self.assertEqual([file.name for file in folder.iterdir()], ["model.bin"])
        self.assertFails(mayfly.NotFound, job.download, "absent", folder / "absent")
        self.assertFails(mayfly.InvalidArgument, job.download, name, folder / "no" / "file")
        self.assertEqual([file.name for file in folder.iterdir()], ["model.bin"])

    def test_who_does_not_wait_finds_it_again(self) -> None:
        job = self.mayfly.run("count", {"until": 2}, wait=False, keep_for="1h")
        self.assertIn(job.state, ("queued", "running", "done"))
        self.assertEqual(self.mayfly.job(job.id).wait(60).result, {"at": 2})
        self.assertEqual(job.refresh().state, "done")
        listed = self.mayfly.jobs("count", "done")
        self.assertIn(job.id, [found.id for found in listed])
        self.assertEqual(self.mayfly.jobs("raises", "done"), [])
        self.assertEqual(len(self.mayfly.jobs(limit=1)), 1)
        self.assertFails(mayfly.InvalidRequest, self.mayfly.jobs, state="odd", text="queued")

    def test_a_job_that_fails_says_why(self) -> None:
        error = self.assertFails(mayfly.JobFailed, self.mayfly.run, "raises", {})
        self.assertEqual((error.state, error.reason), ("failed", "function_error"))
        self.assertIn("ValueError: no such column", str(error))
        self.assertIn("logs(name)", error.hint)
        job = self.mayfly.job(error.job)
        self.assertEqual((job.reason, job.result), ("function_error", None))
        self.assertFails(mayfly.JobFailed, job.wait)

    def test_a_job_is_paused_resumed_and_cancelled(self) -> None:
        job = self.mayfly.run("count", {"until": 100_000, "pause": 0.05}, wait=False)
        self.addCleanup(job.cancel)
        wait_until(lambda: job.refresh().progress.metrics.get("at", 0) > 1, "it runs")
        job.pause()
        wait_until(lambda: job.refresh().state == "paused", "it pauses")
        self.assertFails(mayfly.TimedOut, job.wait, timeout=0.2, text="paused")
        self.assertNotEqual(job.resume().state, "paused")
        wait_until(lambda: job.refresh().state == "running", "it goes on")
        self.assertEqual(job.cancel().state, "cancelled")
        error = self.assertFails(mayfly.JobFailed, job.wait, text="was cancelled")
        self.assertEqual(error.state, "cancelled")
        self.assertFails(mayfly.Conflict, job.pause)

    def test_what_is_not_there_is_not_found(self) -> None:
        nobodys = "019a5d3e-6c0f-7a31-9d52-3f0d8f1f7a10"
        self.assertFails(mayfly.NotFound, self.mayfly.job, nobodys)
        self.assertFails(mayfly.NotFound, self.mayfly.run, "absent", {})
        self.assertFails(mayfly.InvalidArgument, self.mayfly.job, "")
        self.assertFails(mayfly.InvalidArgument, self.mayfly.run, "count", object())


class JobTest(JobCases, PythonNode):
    pass


class AsyncJobTest(JobCases, PythonNode):
    asynchronous = True


class BatchCases:
    functions = {"iris": "iris", "logistic": "logistic", "bytes": "identity_bytes"}
    code = {"double": DOUBLE, "same": SAME}

    def labels(self, rows: np.ndarray) -> list[str]:
        """What the endpoint itself says."""
        inputs = {name: rows[:, i] for i, name in enumerate(COLUMNS)}
        return self.mayfly.call("iris", inputs)["label"].tolist()

    def csv(self, rows: np.ndarray, bad: dict[int, str] | None = None) -> Path:
        path = self.place() / "rows.csv"
        with open(path, "w", encoding="utf-8") as file:
            file.write("id," + ",".join(COLUMNS) + "\n")
            for number, row in enumerate(rows, 1):
                text = ",".join(str(value) for value in row)
                file.write((bad or {}).get(number, f"{number},{text}") + "\n")
        return path

    def test_a_file_becomes_a_file(self) -> None:
        rows = flowers(3000)
        source, told = self.csv(rows), []
        done = self.mayfly.batch(
            "iris",
            str(source),
            output=source.with_name("out.csv"),
            keep="id",
            chunk_rows=500,
            on_progress=told.append,
        )
        self.assertEqual((done.rows, done.errors, done.job.state), (3000, [], "done"))
        with open(done.output, newline="") as file:
            made = list(csv.DictReader(file))
        self.assertEqual([row["id"] for row in made], [str(n) for n in range(1, 3001)])
        self.assertEqual([row["label"] for row in made], self.labels(rows))
        self.assertTrue(any(line.startswith("uploading rows.csv") for line in told), told)
        self.assertEqual(len(list(source.parent.iterdir())), 2)  # no errors, nothing half done

    def test_bad_rows_are_told_and_the_others_pass(self) -> None:
        rows = flowers(100)
        source = self.csv(rows, {3: "3,x,1,1,1", 50: "50,1,1"})
        done = self.mayfly.batch("iris", source, output=source.with_name("out.jsonl"))
        self.assertEqual([error.row for error in done.errors], [3, 50])
        self.assertEqual(done.errors[0].reason, "invalid_input")
        self.assertIn("sepal_length", done.errors[0].error)
        self.assertTrue(source.with_name("out.jsonl.errors.jsonl").exists())
        made = [json.loads(line)["label"] for line in done.output.read_text().splitlines()]
        self.assertEqual((made[2], made[49]), (None, None))
        few = source.with_name("few.csv")
        error = self.assertFails(
            mayfly.JobFailed, self.mayfly.batch, "iris", source, output=few, max_errors=1
        )
        self.assertIn("more than 1 rows failed", error.message)
        self.assertTrue(error.reason)
        self.assertFalse(few.exists())

    def test_a_frame_becomes_a_frame(self) -> None:
        rows = flowers(500)
        frame = pandas.DataFrame(rows, columns=COLUMNS, index=range(1000, 1500))
        frame["day"] = pandas.Timestamp("2026-01-31")
        frame["name"] = [f'"{n}", ü' for n in range(500)]
        before = frame.copy()
        found = self.mayfly.batch("iris", frame, keep=["day", "name"], chunk_rows=64)
        self.assertEqual(list(found.columns), ["day", "name", "label", "probabilities"])
        self.assertEqual(found["label"].tolist(), self.labels(rows))
        self.assertTrue(found.index.equals(frame.index))
        self.assertEqual(found["day"].dtype, frame["day"].dtype)
        self.assertEqual(found["name"].tolist(), frame["name"].tolist())
        self.assertAlmostEqual(sum(found["probabilities"].iloc[0]), 1, places=5)
        self.assertEqual(found.attrs["errors"], [])
        pandas.testing.assert_frame_equal(frame, before)

    def test_columns_say_what_makes_the_only_input(self) -> None:
        rows = np.random.default_rng(1).random((20, 30))
        frame = pandas.DataFrame(rows, columns=[f"f{n}" for n in range(30)])
        frame["id"] = range(20)
        expected = self.mayfly.call("logistic", rows)["label"].tolist()
        (name,) = [spec.name for spec in self.mayfly.describe("logistic").inputs]
        found = self.mayfly.batch("logistic", frame, columns={name: list(frame.columns[:30])})
        self.assertEqual(found["label"].tolist(), expected)
        found = self.mayfly.batch("logistic", frame, keep="id")
        self.assertEqual(found["id"].tolist(), list(range(20)))
        error = self.assertFails(mayfly.JobFailed, self.mayfly.batch, "logistic", frame)
        self.assertTrue(error.reason)

    def test_failed_rows_of_a_frame_are_nan_and_their_errors_are_there(self) -> None:
        frame = pandas.DataFrame(
            {
                "x": [float(n) for n in range(20)],
                "text": [str(n) for n in range(20)],
                "flag": [n % 2 == 0 for n in range(20)],
            }
        )
        frame.loc[5, "x"] = math.nan
        found = self.mayfly.batch("double", frame, keep="*")
        self.assertEqual(list(found.columns), ["x", "text", "flag", "prediction"])
        self.assertTrue(math.isnan(found["prediction"][13]))
        self.assertEqual(list(found["prediction"][4]), [8.0, "4", True])
        self.assertEqual(list(found["prediction"][5]), [None, "5", False])
        (error,) = found.attrs["errors"]
        self.assertEqual((error.row, error.reason), (14, "function_error"))
        self.assertIn("unlucky", error.error)
        json.dumps(found.attrs)  # which pandas does for Parquet

    @unittest.skipUnless(find_spec("pyarrow"), "needs pyarrow")
    def test_lists_in_a_frame_go_up_as_parquet(self) -> None:
        rows = np.random.default_rng(1).random((20, 30))
        expected = self.mayfly.call("logistic", rows)["label"].tolist()
        (name,) = [spec.name for spec in self.mayfly.describe("logistic").inputs]
        frame = pandas.DataFrame({name: list(rows), "note": pandas.array([None, 7] * 10, "Int64")})
        found = self.mayfly.batch("logistic", frame, keep=["note"])
        self.assertEqual(found["label"].tolist(), expected)
        self.assertEqual(found["note"].dtype, frame["note"].dtype)

    def test_a_nan_is_a_number_to_a_model(self) -> None:
        frame = pandas.DataFrame(flowers(4), columns=COLUMNS)
        frame.loc[2, "sepal_width"] = math.nan
        found = self.mayfly.batch("iris", frame)
        self.assertEqual(found.attrs["errors"], [])
        self.assertEqual(found["label"].tolist(), self.labels(frame.to_numpy()))
        chances = np.array(found["probabilities"].tolist())
        self.assertEqual(chances.dtype.kind, "f")
        np.testing.assert_array_equal(np.isnan(chances).all(axis=1), [False, False, True, False])

    def test_the_only_column_may_lack_values(self) -> None:
        for values in (["a", None, "ü"], [1.5, math.nan, 2.0], [True, None, False]):
            found = self.mayfly.batch("same", pandas.DataFrame({"x": values}))
            said = [None if pandas.isna(value) else value for value in values]
            self.assertEqual([row["x"] for row in found["prediction"]], said)
        found = self.mayfly.batch("bytes", pandas.DataFrame({"x": ["a", "", "b"]}))
        self.assertEqual(found["y"].tolist(), ["a", "", "b"])

    def test_a_frame_without_rows_keeps_its_columns(self) -> None:
        frame = pandas.DataFrame(flowers(0), columns=COLUMNS)
        found = self.mayfly.batch("iris", frame, keep=["sepal_width"])
        self.assertEqual(list(found.columns), ["sepal_width", "label", "probabilities"])
        self.assertEqual((len(found), found["sepal_width"].dtype), (0, np.float32))
        frame = pandas.DataFrame({"x": np.zeros(0), "text": [], "flag": []})
        self.assertEqual(list(self.mayfly.batch("double", frame).columns), ["prediction"])

    def test_nothing_is_written_over_what_is_read(self) -> None:
        source = self.csv(flowers(2))
        before, link = source.read_bytes(), source.with_name("link.csv")
        link.symlink_to(source.name)
        for output in (source, source.parent / ".." / source.parent.name / source.name, link):
            self.assertFails(
                mayfly.InvalidArgument,
                self.mayfly.batch,
                "iris",
                source,
                output=output,
                text="written over it",
            )
        errors = source.rename(source.with_name("out.csv.errors.jsonl"))
        self.assertFails(
            mayfly.InvalidArgument,
            self.mayfly.batch,
            "iris",
            errors,
            output=source.with_name("out.csv"),
            text="written over it",
        )
        self.assertEqual(errors.read_bytes(), before)

    def test_what_cannot_be_a_batch_is_refused_here(self) -> None:
        frame = pandas.DataFrame(flowers(1), columns=COLUMNS)
        here = self.place()
        for data, output, text in (
            ([1, 2], None, "builtins.list"),
            ("rows.csv", None, "output="),
            (here / "absent.csv", here / "out.csv", "no such file"),
            (here / "rows.xlsx", here / "out.csv", "rows.xlsx"),
            (here / "rows.csv", here / "out", "does not say"),
            (here / "rows.csv", here / "no" / "out.csv", "no such folder"),
            (frame, "out.csv", "output= is for files"),
            (pandas.concat([frame, frame], axis=1), None, "two columns"),
        ):
            with self.subTest(text):
                self.assertFails(
                    mayfly.InvalidArgument, self.mayfly.batch, "iris", data, output=output, text=text
                )


class BatchTest(BatchCases, PythonNode):
    pass


class AsyncBatchTest(BatchCases, PythonNode):
    asynchronous = True


ACCEPTED = {
    "id": "j-1",
    "function": "f",
    "version": 1,
    "kind": "run",
    "state": "running",
    "submitted": "2026-01-31T08:00:00Z",
    "expires": "2026-02-07T08:00:00Z",
    "progress": {"fraction": None, "text": "", "metrics": {}, "eta_s": None},
}
RUNNING = reply(200, json.dumps(ACCEPTED).encode())
DONE = reply(200, json.dumps({**ACCEPTED, "state": "done", "result": 7, "files": []}).encode())


class BrokenCases(BothClients):
    def test_a_node_that_is_started_again_is_waited_for(self) -> None:
        with Scripted([RUNNING, RUNNING, CLOSE, CLOSE, CLOSE, DONE]) as server:
            job = self.client(server.url, retries=0).job("j-1")
            self.assertEqual(job.wait(30).result, 7)

    def test_a_file_that_is_cut_off_leaves_what_was_there(self) -> None:
        folder = self.place()
        (folder / "f").write_text("old")
        with Scripted([RUNNING, chunked(b"new", end=False) + b"Connection: close"]) as server:
            job = self.client(server.url, retries=0).job("j-1")
            self.assertFails(mayfly.ConnectionFailed, job.download, "f", folder / "f")
            self.assertEqual((folder / "f").read_text(), "old")
            self.assertEqual([file.name for file in folder.iterdir()], ["f"])

    def test_a_download_that_breaks_is_begun_again(self) -> None:
        folder = self.place()
        with Scripted([RUNNING, CLOSE, chunked(b"new" * 1000, b"er")]) as server:
            job = self.client(server.url).job("j-1")
            self.assertEqual(job.download("f", folder).read_bytes(), b"new" * 1000 + b"er")
            self.assertEqual(server.heard[-1].target, "/api/v1/jobs/j-1/file?name=f")

    def test_a_run_whose_connection_broke_is_not_submitted_again(self) -> None:
        with Scripted([CLOSE, DONE]) as server:
            self.assertFails(mayfly.ConnectionFailed, self.client(server.url).run, "f", {})
            self.assertEqual(len(server.heard), 1)

    def place(self) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)


class BrokenTest(BrokenCases, unittest.TestCase):
    pass


class AsyncBrokenTest(BrokenCases, unittest.TestCase):
    asynchronous = True


class FrameTest(unittest.TestCase):
    def test_nulls_of_floats_are_nan_and_others_stay(self) -> None:
        specs = [
            TensorSpec("s", "FP32", (-1,)),
            TensorSpec("l", "BF16", (-1, 2)),
            TensorSpec("n", "INT64", (-1,)),
            TensorSpec("b", "BOOL", (-1,)),
            TensorSpec("t", "BYTES", (-1,)),
        ]
        rows = [
            {"s": 1.5, "l": [None, 2.0], "n": 1, "b": True, "t": ["a", None]},
            {"s": None, "l": None, "n": None, "b": None, "t": None},
        ]
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, "made.jsonl")
            made.write_text("".join(json.dumps(row) + "\n" for row in rows))
            frame = pandas.DataFrame(index=[7, 8])
            found = _frames.read_frame(made, frame, None, mayfly.BatchErrors(), specs)
            self.assertTrue(math.isnan(found["l"][7][0]) and math.isnan(found["l"][8]))
            self.assertEqual(found["t"][7], ["a", None])
            self.assertEqual([found[name].dtype.kind for name in "sn"], ["f", "f"])
            made.write_text("")
            found = _frames.read_frame(made, frame[:0], None, mayfly.BatchErrors(), specs)
            self.assertEqual([found[name].dtype.kind for name in found], ["f", "O", "i", "b", "O"])

    def test_lists_want_parquet(self) -> None:
        frame = pandas.DataFrame({"x": [[1.0], [2.0]]})
        with tempfile.TemporaryDirectory() as folder:
            with mock.patch.object(_frames.importlib.util, "find_spec", return_value=None):
                with self.assertRaisesRegex(mayfly.InvalidArgument, "(?s)list.*pyarrow"):
                    _frames.write_frame(frame, Path(folder), False)


if __name__ == "__main__":
    unittest.main()
