"""The official Python client (tritonclient) against a node: what it sends is what users' programs send."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from case import NodeCase
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from models.protocol import ALL_DATATYPES, EDGES

VALUES = EDGES | {
    "FP16": np.array([0.1, -0.0, 65504, 6e-8], np.float16),
    "BF16": np.array(
        [1.0, -0.0, 3.0e38, 0.5], np.float32
    ),  # values that bfloat16 holds, but for the third
    "BYTES": np.array([b"", b"a\0b", "Grüße".encode(), b"\xff\xfe", b"x" * 70_000], dtype=object),
}


class TritonClientTest(NodeCase):
    functions = {f"identity_{d.lower()}": f"identity_{d.lower()}" for d in ALL_DATATYPES} | {
        "adder": "adder",
        "multi_rank": "multi_rank",
        "iris": "iris",
    }

    def setUp(self) -> None:
        self.client = triton.InferenceServerClient(
            f"127.0.0.1:{self.node.port}", network_timeout=60
        )
        self.addCleanup(self.client.close)

    def ask(self, model: str, inputs: dict[str, tuple[str, np.ndarray]], **options):
        tensors = []
        for name, (datatype, value) in inputs.items():
            tensors.append(triton.InferInput(name, value.shape, datatype))
            tensors[-1].set_data_from_numpy(value, binary_data=options.get("binary_in", True))
        wanted = [
            triton.InferRequestedOutput(name, binary_data=options.get("binary_out", True))
            for name in options.get("outputs", [])
        ]
        rest = {
            key: value
            for key, value in options.items()
            if key not in ("binary_in", "binary_out", "outputs")
        }
        return self.client.infer(model, tensors, outputs=wanted or None, **rest)

    def assertSame(self, datatype: str, answer: np.ndarray, value: np.ndarray) -> None:
        if datatype == "BYTES":
            self.assertEqual(
                [bytes(v) if isinstance(v, bytes) else v.encode() for v in answer.ravel()],
                [v if isinstance(v, bytes) else v.encode() for v in value.ravel()],
            )
        elif datatype == "BF16":  # compared as the client truncates
            self.assertTrue(
                np.array_equal(answer.view(np.uint32) >> 16, value.view(np.uint32) >> 16)
            )
        else:
            self.assertEqual(answer.tobytes(), value.tobytes(), (answer, value))

    def test_health_and_metadata(self) -> None:
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("adder"))
        self.assertFalse(self.client.is_model_ready("nothing"))
        server = self.client.get_server_metadata()
        self.assertEqual(server["name"], "mayfly")
        self.assertIn("binary_tensor_data", server["extensions"])
        model = self.client.get_model_metadata("multi_rank")
        shapes = {tensor["name"]: tensor["shape"] for tensor in model["inputs"]}
        self.assertEqual(
            shapes, {"scalar": [], "vector": [-1], "matrix": [-1, -1], "cube": [-1, -1, -1]}
        )
        self.assertEqual(model["versions"], ["1"])

    def test_every_datatype_survives_in_binary(self) -> None:
        for datatype, value in VALUES.items():
            with self.subTest(datatype):
                result = self.ask(
                    f"identity_{datatype.lower()}", {"x": (datatype, value)}, outputs=["y"]
                )
                self.assertSame(datatype, result.as_numpy("y"), value)

    def test_every_datatype_survives_every_mix_of_json_and_binary(self) -> None:
        for datatype, value in EDGES.items():
            for binary_in, binary_out in ((False, False), (False, True), (True, False)):
                with self.subTest(datatype, binary_in=binary_in, binary_out=binary_out):
                    result = self.ask(
                        f"identity_{datatype.lower()}",
                        {"x": (datatype, value)},
                        outputs=["y"],
                        binary_in=binary_in,
                        binary_out=binary_out,
                    )
                    self.assertSame(datatype, result.as_numpy("y"), value)

    def test_without_requested_outputs_all_come_in_binary(self) -> None:
        ones = np.ones(3, np.float32)
        result = self.ask("adder", {"a": ("FP32", ones), "b": ("FP32", ones)})
        self.assertEqual(result.as_numpy("sum").tolist(), [2, 2, 2])
        self.assertEqual(result.as_numpy("difference").tolist(), [0, 0, 0])

    def test_only_the_requested_outputs_come(self) -> None:
        ones = np.ones(2, np.float32)
        result = self.ask(
            "adder", {"a": ("FP32", ones), "b": ("FP32", ones)}, outputs=["difference"]
        )
        self.assertEqual(
            [output["name"] for output in result.get_response()["outputs"]], ["difference"]
        )

    def test_zero_length_tensors(self) -> None:
        empty = np.zeros(0, np.float32)
        for binary in (True, False):
            result = self.ask(
                "identity_fp32",
                {"x": ("FP32", empty)},
                outputs=["y"],
                binary_in=binary,
                binary_out=binary,
            )
            self.assertEqual(result.as_numpy("y").shape, (0,))

    def test_shapes_of_every_rank(self) -> None:
        value = {
            "scalar": np.array(7, np.float32),
            "vector": np.arange(2, dtype=np.float32),
            "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
            "cube": np.zeros((2, 3, 4), np.float32),
        }
        result = self.ask("multi_rank", {name: ("FP32", array) for name, array in value.items()})
        for name, array in value.items():
            self.assertEqual(result.as_numpy(f"{name}_out").shape, array.shape)
            self.assertTrue(np.array_equal(result.as_numpy(f"{name}_out"), array))

    def test_compressed_requests_and_replies(self) -> None:
        value = np.arange(4096, dtype=np.float32)
        for algorithm in ("gzip", "deflate"):
            for binary in (True, False):
                with self.subTest(algorithm, binary=binary):
                    result = self.ask(
                        "identity_fp32",
                        {"x": ("FP32", value)},
                        outputs=["y"],
                        binary_in=binary,
                        binary_out=binary,
                        request_compression_algorithm=algorithm,
                        response_compression_algorithm=algorithm,
                    )
                    self.assertTrue(np.array_equal(result.as_numpy("y"), value))

    def test_the_request_id_comes_back(self) -> None:
        result = self.ask(
            "identity_fp32", {"x": ("FP32", np.ones(1, np.float32))}, request_id="order-66"
        )
        self.assertEqual(result.get_response()["id"], "order-66")

    def test_a_version_can_be_asked_for(self) -> None:
        value = {"x": ("FP32", np.ones(1, np.float32))}
        self.assertEqual(
            self.ask("identity_fp32", value, model_version="1").get_response()["model_version"], "1"
        )
        with self.assertRaises(InferenceServerException):
            self.ask("identity_fp32", value, model_version="9")

    def test_errors_carry_their_text(self) -> None:
        with self.assertRaisesRegex(InferenceServerException, "unknown model"):
            self.ask("nothing", {"x": ("FP32", np.ones(1, np.float32))})
        with self.assertRaisesRegex(InferenceServerException, "b"):
            self.ask("adder", {"a": ("FP32", np.ones(1, np.float32))})

    def test_concurrent_requests_get_their_own_answers(self) -> None:
        def one(number: int) -> bool:
            with triton.InferenceServerClient(f"127.0.0.1:{self.node.port}") as client:
                tensor = triton.InferInput("x", [1000], "INT64")
                tensor.set_data_from_numpy(np.full(1000, number))
                return bool(
                    (client.infer("identity_int64", [tensor]).as_numpy("y") == number).all()
                )

        with ThreadPoolExecutor(8) as pool:
            self.assertTrue(all(pool.map(one, range(200))))
