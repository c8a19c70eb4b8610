"""Requests that run as one: right answers for each, the guilty one fails alone, and nobody waits too long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import onnx
from case import NodeCase
from node import tensor
from onnx import TensorProto, helper, numpy_helper


def save(path: Path, nodes, inputs, outputs, constants=()) -> Path:
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(constants))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def doubler(path: Path, rows="n", width="w") -> Path:
    """x [rows, width] -> twice x."""
    shape = [rows, width]
    return save(
        path,
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )


def lookup(path: Path) -> Path:
    """x [n] -> squares[x]; the run fails for x >= 100."""
    squares = numpy_helper.from_array(np.arange(100, dtype=np.int64) ** 2, "squares")
    return save(
        path,
        [helper.make_node("Gather", ["squares", "x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])],
        [squares],
    )


def hungry(path: Path) -> Path:
    """x [n] -> x, by way of as many floats as the largest of x says."""
    return save(
        path,
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=1),
            helper.make_node("ConstantOfShape", ["most"], ["many"]),
            helper.make_node("ReduceSum", ["many"], ["none"], keepdims=1),
            helper.make_node("Cast", ["none"], ["zero"], to=TensorProto.INT64),
            helper.make_node("Add", ["x", "zero"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])],
    )


def row_mixer(path: Path) -> Path:
    """x [n] -> one number whatever n, although the shape says otherwise."""
    return save(
        path,
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m"])],
    )


def together(questions: list) -> list:
    """Asks all of them at once; the answers in their order."""
    answers: list = [None] * len(questions)
    barrier = threading.Barrier(len(questions))

    def ask(i: int) -> None:
        barrier.wait()
        answers[i] = questions[i]()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class BatchingTest(NodeCase):
    def deploy(self, name: str, model: Path, **options) -> None:
        flags = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
        self.node.cli("deploy", name, str(model), *flags)

    def batch_of(self, reply) -> int:
        return int(reply.headers.get("Mayfly-Batch", "1"))

    def test_members_get_their_own_rows_back(self) -> None:
        self.deploy("double", doubler(self.folder / "double.onnx"), max_batch=16, max_delay="300ms")
        self.node.infer("double", tensor("x", "FP32", [1, 2], [0, 0]))

        def question(i: int):
            rows = 1 + i % 3
            width = 2 if i % 4 else 3  # two shapes, which must not be mixed
            data = [float(100 * i + k) for k in range(rows * width)]
            return lambda: (self.node.infer("double", tensor("x", "FP32", [rows, width], data)), rows, width, data)

        answers = together([question(i) for i in range(12)])
        for reply, rows, width, data in answers:
            self.assertServed(reply)
            self.assertEqual(reply.json()["outputs"][0]["shape"], [rows, width])
            self.assertEqual(reply.output("y"), [2 * value for value in data])
        (of,) = self.node.request("GET", "/v2/models/double/stats").json()["model_stats"]
        runs = {one["batch_size"]: one["compute_infer"]["count"] for one in of["batch_stats"]}
        self.assertEqual(sum(runs.values()), of["execution_count"])
        self.assertEqual(sum(rows * count for rows, count in runs.items()), of["inference_count"])
        self.assertGreater(max(runs), 3)
        self.assertGreater(max(self.batch_of(reply) for reply, *_ in answers), 2)
        record = self.node.cli_json("describe", "double")
        self.assertEqual(record["options"]["max_batch"], 16)
        self.assertTrue(record["batching"]["sizes"])
        self.assertIn("batches of up to 16 rows", self.node.cli("describe", "double").stdout.decode())

    def test_only_the_guilty_member_fails(self) -> None:
        self.deploy("square", lookup(self.folder / "square.onnx"), max_batch=8, max_delay="500ms")
        self.node.infer("square", tensor("x", "INT64", [1], [0]))
        numbers = [1, 2, 3, 4000, 5, 6]
        replies = together(
            [lambda n=n: self.node.infer("square", tensor("x", "INT64", [1], [n])) for n in numbers]
        )
        for number, reply in zip(numbers, replies):
            if number < 100:
                self.assertServed(reply)
                self.assertEqual(reply.output("y"), [number**2])
            else:
                self.assertRefused(reply, 400, "model_error")

    def test_a_member_that_kills_the_instance_dies_alone(self) -> None:
        self.deploy("hungry", hungry(self.folder / "hungry.onnx"), max_batch=8, max_delay="500ms", memory="64MiB")
        self.node.infer("hungry", tensor("x", "INT64", [1], [1]))
        numbers = [1, 2, 100_000_000, 4]  # times 4 bytes
        replies = together(
            [lambda n=n: self.node.infer("hungry", tensor("x", "INT64", [1], [n])) for n in numbers]
        )
        for number, reply in zip(numbers, replies):
            if number < 100:
                self.assertServed(reply)
                self.assertEqual(reply.output("y"), [number])
            else:
                self.assertEqual(reply.reason, "out_of_memory")

    def test_a_lone_request_waits_no_longer_than_max_delay(self) -> None:
        self.deploy("patient", doubler(self.folder / "patient.onnx"), max_batch=64, max_delay="400ms")
        row = tensor("x", "FP32", [1, 1], [1])
        self.node.infer("patient", row)
        began = time.monotonic()
        self.assertServed(self.node.infer("patient", row))
        self.assertGreaterEqual(time.monotonic() - began, 0.39)
        began = time.monotonic()
        full = tensor("x", "FP32", [64, 1], [1] * 64)
        self.assertServed(self.node.infer("patient", full))
        self.assertLess(time.monotonic() - began, 0.39)

    def test_outputs_that_are_not_of_rows_end_batching_and_nothing_else(self) -> None:
        self.deploy("mixer", row_mixer(self.folder / "mixer.onnx"), max_batch=8, max_delay="300ms")
        self.node.infer("mixer", tensor("x", "FP32", [1], [0]))
        for _ in range(2):
            replies = together(
                [lambda n=n: self.node.infer("mixer", tensor("x", "FP32", [1], [n])) for n in (1, 2, 3)]
            )
            self.assertEqual([reply.output("y") for reply in replies], [[1.0], [2.0], [3.0]])
        self.assertNotIn("batching", self.node.cli_json("describe", "mixer"))

    def test_what_cannot_be_batched_is_refused_at_deploy(self) -> None:
        free, fixed = doubler(self.folder / "free.onnx"), doubler(self.folder / "fixed.onnx", rows=1)

        def refused(model: Path, *options: str) -> str:
            flags = [part for option in options for part in ("--set", option)]
            done = self.node.cli("deploy", "refused", str(model), *flags, check=False)
            self.assertNotEqual(done.returncode, 0)
            return done.stderr.decode()

        self.assertIn("isolation", refused(free, "max_batch=4", "isolation=request"))
        self.assertIn("no batch dimension", refused(fixed, "max_batch=auto"))
        self.assertIn("max_batch", refused(free, "max_batch=1"))
        self.assertIn("max_batch", refused(free, "max_batch=many"))
        self.assertIn("preferred_batch", refused(free, "max_batch=4", "preferred_batch=[8]"))
        self.assertIn("max_delay", refused(free, "max_batch=auto", "max_delay=1ms"))
