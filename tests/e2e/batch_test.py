"""Batches: a function over the rows of a file, through the command line and over HTTP; bad rows, restarts, kill -9."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess

import numpy as np
from case import NodeCase
from jobs_test import OVER
from node import BIN, Node, wait_until
from python_test import PythonCase, text_of

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def flowers(rows: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(0.1, 8, (rows, 4)).round(3).astype(np.float32)


def write_csv(path, rows: np.ndarray, bad: dict[int, str] | None = None) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("id," + ",".join(COLUMNS) + "\n")
        for number, row in enumerate(rows, 1):
            text = ",".join(str(value) for value in row)
            file.write((bad or {}).get(number, f"{number},{text}") + "\n")


def read_csv(path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class BatchTest(NodeCase):
    functions = {"iris": "iris"}

    def labels(self, rows: np.ndarray) -> list[str]:
        """What the endpoint itself says, in one request."""
        inputs = [{"name": name, "datatype": "FP32", "shape": [len(rows)], "data": rows[:, i].tolist()}
                  for i, name in enumerate(COLUMNS)]
        reply = self.node.infer("iris", *inputs)
        self.assertServed(reply)
        return reply.output("label")

    def batch(self, source, target, *more: str, check: bool = True):
        return self.node.cli("batch", "iris", "--input", str(source), "--output", str(target), *more, check=check)

    def test_each_row_gets_the_endpoints_answer_in_its_order(self) -> None:
        rows = flowers(5000)
        source, target = self.folder / "in.csv", self.folder / "out.csv"
        write_csv(source, rows)
        said = text_of(self.batch(source, target, "--keep", "id", "--chunk-rows", "700").stdout)
        self.assertIn("5,000 rows, 0 failed", said)
        made = read_csv(target)
        self.assertEqual([row["id"] for row in made], [str(n) for n in range(1, 5001)])
        self.assertEqual([row["label"] for row in made], self.labels(rows))
        self.assertEqual(set(made[0]), {"id", "label", "probabilities_0", "probabilities_1", "probabilities_2"})

    def test_bad_rows_land_in_a_file_with_reasons_and_the_others_pass(self) -> None:
        rows = flowers(100)
        source, target = self.folder / "bad.csv", self.folder / "bad-out.csv"
        write_csv(source, rows, {3: "3,x,1,1,1", 50: "50,1,1"})
        self.batch(source, target)
        errors = [json.loads(line) for line in (self.folder / "bad-out.csv.errors.jsonl").read_text().splitlines()]
        self.assertEqual([error["row"] for error in errors], [3, 50])
        self.assertIn("sepal_length", errors[0]["error"])
        labels = [row["label"] for row in read_csv(target)]
        self.assertEqual((labels[2], labels[49]), ("", ""))
        good = [n for n in range(100) if n not in (2, 49)]
        self.assertEqual([labels[n] for n in good], self.labels(rows[good]))

    def test_the_input_is_never_overwritten_and_wrong_numbers_are_refused(self) -> None:
        source = self.folder / "precious.csv"
        write_csv(source, flowers(3))
        before = source.read_bytes()
        for target, *more in ((source,), (self.folder / "x.csv", "--errors", str(source)),
                              (self.folder / "x.csv", "--max-errors", "-5"),
                              (self.folder / "x.csv", "--chunk-rows", "0"),
                              (self.folder / "nowhere" / "x.csv",)):
            self.assertNotEqual(self.batch(source, target, *more, check=False).returncode, 0)
        self.assertEqual(source.read_bytes(), before)
        self.assertIn("would be overwritten", text_of(self.batch(source, source, check=False).stderr))

    def test_a_detached_batch_prints_its_id_alone(self) -> None:
        source = self.folder / "detached.csv"
        write_csv(source, flowers(3))
        done = self.batch(source, self.folder / "detached-out.csv", "--detach")
        self.assertRegex(text_of(done.stdout), r"\A[0-9a-f-]{36}\n\Z")

    def test_more_bad_rows_than_allowed_fail_the_batch(self) -> None:
        source = self.folder / "worse.csv"
        write_csv(source, flowers(50), {n: f"{n},x,1,1,1" for n in range(1, 11)})
        failed = self.batch(source, self.folder / "worse-out.csv", "--max-errors", "9", check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("more than 9 rows failed", text_of(failed.stderr))
        self.assertFalse((self.folder / "worse-out.csv").exists())
        self.batch(source, self.folder / "worse-out.csv", "--max-errors", "10")

    def test_missing_columns_are_named_with_what_there_is(self) -> None:
        source = self.folder / "other.csv"
        source.write_text("a,b\n1,2\n")
        failed = text_of(self.batch(source, self.folder / "other-out.csv", check=False).stderr)
        self.assertIn("sepal_length", failed)
        self.assertRegex(failed, r"\ba\b.*\bb\b")

    def test_a_file_that_is_not_what_its_name_says_is_refused(self) -> None:
        source = self.folder / "garbage.parquet"
        source.write_bytes(bytes(range(256)) * 40)
        failed = self.batch(source, self.folder / "garbage-out.csv", check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("arquet", text_of(failed.stderr))

    def test_an_empty_file_and_one_with_a_header_only(self) -> None:
        source, target = self.folder / "empty.csv", self.folder / "empty-out.csv"
        source.write_text("id," + ",".join(COLUMNS) + "\n")
        self.batch(source, target)
        self.assertEqual(read_csv(target), [])
        source.write_text("")
        self.assertNotEqual(self.batch(source, target, check=False).returncode, 0)

    def test_over_http(self) -> None:
        content = ("id," + ",".join(COLUMNS) + "\n1,5.1,3.5,1.4,0.2\n").encode()
        blob = self.node.request("POST", "/api/v1/blobs", content).json()
        digest = hashlib.sha256(content).hexdigest()
        self.assertIn(digest, json.dumps(blob))
        place = "/api/v1/functions/iris/jobs"
        wanted = {"kind": "batch", "input": {"sha256": digest}, "format": "csv", "output_format": "jsonl"}
        reply = self.node.post_json(place, wanted)
        self.assertEqual(reply.status, 202, reply.body)
        where = reply.headers["Location"]
        wait_until(lambda: self.node.request("GET", where).json()["state"] in OVER, "it ends")
        job = self.node.request("GET", where).json()
        self.assertEqual((job["state"], job["result"]["rows"]), ("done", 1), job)
        row = json.loads(self.node.request("GET", f"{where}/file?name=output.jsonl").body)
        self.assertEqual(row["label"], "setosa")
        self.assertRefused(self.node.request("GET", f"{where}/file?name=nothing"), 404, "not_found")
        nobodys = {**wanted, "input": {"sha256": "0" * 64}}
        self.assertRefused(self.node.post_json(place, nobodys), 404, "not_found")
        self.assertRefused(self.node.post_json(place, {**wanted, "keep": 7}), 400, "bad_request")
        self.assertRefused(self.node.post_json(place, {**wanted, "odd": 7}), 400, "bad_request")
        self.assertRefused(self.node.post_json(place, {**wanted, "format": "xls"}), 400, "bad_request")

    def test_metrics_tell_of_jobs_their_slices_and_rows(self) -> None:
        def value(series: str) -> float:
            lines = self.node.request("GET", "/metrics").body.decode().splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.startswith(series + " "))

        rows, slices = 'mayfly_batch_rows_total{outcome="failed"}', 'mayfly_job_slices_total{kind="batch",outcome="done"}'
        before = value(rows), value(slices), value('mayfly_jobs{kind="batch",state="done"}')
        source = self.folder / "counted.csv"
        write_csv(source, flowers(40), {3: "3,x,1,1,1"})
        self.batch(source, self.folder / "counted-out.csv")
        after = value(rows), value(slices), value('mayfly_jobs{kind="batch",state="done"}')
        self.assertEqual(after, tuple(count + 1 for count in before))
        self.assertGreater(value('mayfly_job_bytes{role="result"}'), 0)
        self.assertGreater(value('mayfly_job_slice_seconds_total{kind="batch"}'), 0)

    def test_predictions_of_a_batch_are_on_the_bill(self) -> None:
        before = self.node.usage("iris")["requests"]
        source = self.folder / "billed.csv"
        write_csv(source, flowers(1000))
        self.batch(source, self.folder / "billed-out.csv", "--chunk-rows", "100")
        self.assertGreaterEqual(self.node.usage("iris")["requests"] - before, 10)


class PythonBatchTest(PythonCase):
    def test_a_function_without_types_gets_row_by_row_and_its_bad_rows_are_told(self) -> None:
        self.deploy("double", """
            def predict(inputs, state, ctx):
                if inputs["x"] == 13:
                    raise ValueError("unlucky")
                return inputs["x"] * 2
        """)
        source, target = self.folder / "numbers.jsonl", self.folder / "numbers-out.jsonl"
        source.write_text("".join(f'{{"x": {n}}}\n' for n in range(20)))
        self.node.cli("batch", "double", "--input", str(source), "--output", str(target))
        made = [json.loads(line)["prediction"] for line in target.read_text().splitlines()]
        self.assertEqual(made, [None if n == 13 else n * 2 for n in range(20)])
        error = json.loads((self.folder / "numbers-out.jsonl.errors.jsonl").read_text())
        self.assertEqual((error["row"], error["reason"]), (14, "function_error"))


    def test_parquet_and_json_lines_go_in_and_out(self) -> None:
        self.node.deploy("iris", "iris")
        self.deploy("most", """
            def predict(inputs, state, ctx):
                return [inputs["id"], inputs["label"], max(inputs["probabilities"])]
        """)
        source, between, target = (self.folder / name for name in ("rows.csv", "rows.parquet", "rows.jsonl"))
        write_csv(source, flowers(300))
        self.node.cli("batch", "iris", "--input", str(source), "--output", str(between), "--keep", "id")
        self.node.cli("batch", "most", "--input", str(between), "--output", str(target))
        answers = [json.loads(line)["prediction"] for line in target.read_text().splitlines()]
        self.assertEqual([answer[0] for answer in answers], [str(n) for n in range(1, 301)])
        self.assertEqual({answer[1] for answer in answers}, {"setosa", "versicolor", "virginica"})
        self.assertTrue(all(1 / 3 < answer[2] <= 1 for answer in answers))

    def test_a_function_that_streams_is_refused(self) -> None:
        self.deploy("streams", """
            def predict(inputs, state, ctx):
                yield 1
        """)
        source = self.folder / "one.jsonl"
        source.write_text('{"x": 1}\n')
        refused = self.node.cli("batch", "streams", "--input", str(source), "--output", str(self.folder / "no.csv"),
                                check=False)
        self.assertIn("streams its replies", text_of(refused.stderr))


class BatchRestartTest(NodeCase):
    arguments = ("--jobs-slice-seconds", "1")

    def test_a_chunk_that_takes_longer_than_a_slice_is_done_nevertheless(self) -> None:
        node = Node(*self.arguments)
        self.addCleanup(node.close)
        folder = self.folder / "slow"
        folder.mkdir()
        (folder / "function.py").write_text(
            "import time\ndef predict(inputs, state, ctx):\n    time.sleep(0.25)\n    return inputs['x']\n")
        node.cli("deploy", "slow", str(folder))
        source, target = self.folder / "slow.jsonl", self.folder / "slow-out.jsonl"
        source.write_text("".join(f'{{"x": {n}}}\n' for n in range(24)))
        node.cli("batch", "slow", "--input", str(source), "--output", str(target), "--chunk-rows", "12")
        self.assertEqual([json.loads(line)["prediction"] for line in target.read_text().splitlines()], list(range(24)))

    def test_who_waits_for_a_batch_outwaits_a_node_that_starts_again(self) -> None:
        node = Node(*self.arguments)
        self.addCleanup(node.close)
        node.deploy("iris", "iris")
        source, target = self.folder / "waited.csv", self.folder / "waited-out.csv"
        write_csv(source, flowers(20_000))
        command = [str(BIN / "mayfly"), "--url", node.url, "batch", "iris", "--input", str(source), "--output", str(target),
                   "--chunk-rows", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
            wait_until(lambda: node.request("GET", "/api/v1/jobs").json()["jobs"], "it is submitted", 60)
            node.kill()
            node.start(node.port)
            said, told = waiting.communicate(timeout=200)
        self.assertEqual(waiting.returncode, 0, told)
        self.assertIn(b"20,000 rows, 0 failed", said)
        self.assertRegex(told, rb"job [0-9a-f-]{36}")
        self.assertEqual(len(read_csv(target)), 20_000)

    def test_kill_9_and_pauses_cost_no_row_and_double_none(self) -> None:
        node = Node(*self.arguments)
        self.addCleanup(node.close)
        node.deploy("iris", "iris")
        rows = flowers(60_000)
        source, target = self.folder / "long.csv", self.folder / "long-out.csv"
        write_csv(source, rows)
        done = node.cli("batch", "iris", "--input", str(source), "--output", str(target), "--keep", "id",
                        "--chunk-rows", "1", "--detach", "--json")
        job = json.loads(done.stdout)["id"]
        place = f"/api/v1/jobs/{job}"
        for turn in range(3):
            before = node.request("GET", place).json()["slices"]
            wait_until(lambda: node.request("GET", place).json()["slices"] > before
                       or node.request("GET", place).json()["state"] in OVER, "a slice ends", 60)
            if turn == 1:
                node.cli("jobs", "pause", job, check=False)  # it may be over
                wait_until(lambda: node.request("GET", place).json()["state"] in ("paused", *OVER), "it pauses")
                if node.request("GET", place).json()["state"] == "paused":
                    node.cli("jobs", "resume", job)
            else:
                node.kill()
                node.start()
        wait_until(lambda: node.request("GET", place).json()["state"] in OVER, "it ends", 200)
        ended = node.request("GET", place).json()
        self.assertEqual((ended["state"], ended["result"]["rows"]), ("done", 60_000), ended)
        self.assertGreater(ended["slices"], 2)
        node.cli("jobs", "get", job, "--output", str(self.folder))
        made = read_csv(self.folder / "output.csv")
        self.assertEqual([row["id"] for row in made], [str(n) for n in range(1, 60_001)])
        self.assertNotIn("", {row["label"] for row in made})
