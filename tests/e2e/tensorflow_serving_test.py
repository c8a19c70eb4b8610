"""TensorFlow Serving's REST API: a client of it asks this node by another URL and is none the wiser."""

from __future__ import annotations

import base64
import gzip
import json

from case import NodeCase
from node import tensor

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
OTHER = {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}


class TensorFlowServingTest(NodeCase):
    functions = {
        "iris": "iris",
        "adder": "adder",
        "digits": "mlp1m",
        "identity_fp32": "identity_fp32",
        "identity_fp16": "identity_fp16",
        "identity_bytes": "identity_bytes",
        "multi_rank": "multi_rank",
        "upper": "string_upper",
    }
    arguments = ("--max-body", "4MiB")

    def predict(self, path: str, value, headers: dict[str, str] | None = None):
        return self.node.post_json(f"/v1/models/{path}:predict", value, headers)

    # Predictions

    def test_rows_of_one_input_are_values(self) -> None:
        pixels = [[float(i % 16) for i in range(64)], [float(i % 7) for i in range(64)]]
        reply = self.predict("digits", {"instances": pixels})
        self.assertServed(reply)
        predictions = reply.json()["predictions"]
        self.assertEqual([len(row) for row in predictions], [10, 10])
        same = self.node.infer("digits", tensor("pixels", "FP32", [2, 64], pixels))
        self.assertEqual(sum(predictions, []), same.output("probabilities"))

    def test_rows_of_several_inputs_are_objects_in_and_out(self) -> None:
        reply = self.predict("iris", {"instances": [FLOWER, OTHER]})
        self.assertServed(reply)
        first, second = reply.json()["predictions"]
        self.assertEqual((first["label"], second["label"]), ("setosa", "virginica"))
        self.assertEqual(len(first["probabilities"]), 3)

    def test_a_label_is_an_alias(self) -> None:
        reply = self.predict("identity_fp32/labels/champion", {"inputs": [1, 2.5]})
        self.assertEqual(reply.json(), {"outputs": [1, 2.5]})
        status = self.node.request("GET", "/v1/models/identity_fp32/labels/champion").json()
        self.assertEqual(status["model_version_status"][0]["version"], "1")
        self.assertEqual(
            self.predict("identity_fp32/labels/nothing", {"inputs": [1]}).status, 404
        )

    def test_columns_are_whole_tensors(self) -> None:
        reply = self.predict("adder", {"inputs": {"b": [10, 20, 30], "a": [1, 2, 3]}})
        self.assertServed(reply)
        self.assertEqual(
            reply.json(), {"outputs": {"sum": [11, 22, 33], "difference": [-9, -18, -27]}}
        )
        reply = self.predict("identity_fp32", {"inputs": [1, 2.5], "signature_name": ""})
        self.assertEqual(reply.json(), {"outputs": [1, 2.5]})

    def test_rows_that_a_model_cannot_answer_are_sent_as_columns(self) -> None:
        inputs = {"scalar": 1, "vector": [1], "matrix": [[1]], "cube": [[[1]]]}
        self.assertRefused(
            self.predict("multi_rank", {"instances": [inputs]}), 400, "invalid_input", "'inputs'"
        )
        reply = self.predict("multi_rank", {"inputs": inputs})
        self.assertServed(reply)
        self.assertEqual(reply.json()["outputs"]["cube_out"], [[[1]]])
        self.assertEqual(reply.json()["outputs"]["scalar_out"], 1)

    def test_bytes_travel_as_base64_where_they_are_no_text(self) -> None:
        binary = {"b64": base64.b64encode(b"\xff\x00").decode()}
        for key, answer in (("instances", "predictions"), ("inputs", "outputs")):
            reply = self.predict("identity_bytes", {key: ["café", binary, {"b64": "Zm9v"}]})
            self.assertServed(reply)
            self.assertEqual(reply.json(), {answer: ["café", binary, "foo"]})
        reply = self.predict("upper", {"instances": [{"text": "abc"}, {"text": {"b64": "Zm9v"}}]})
        self.assertEqual(reply.json(), {"predictions": ["ABC", "FOO"]})

    def test_small_floats_and_infinities_are_numbers(self) -> None:
        reply = self.predict("identity_fp16", {"instances": [1.5, 65504]})
        self.assertEqual(reply.json(), {"predictions": [1.5, 65504]})
        reply = self.predict("identity_fp32", {"instances": [float("inf"), float("nan")]})
        self.assertServed(reply)
        self.assertEqual(reply.body, b'{"predictions":[Infinity,NaN]}')

    def test_long_and_compressed_bodies(self) -> None:
        for rows in (10, 100_000):  # the second is parsed and written on a pool
            body = json.dumps({"instances": [float(i) for i in range(rows)]}).encode()
            for content, headers in (
                (body, {}),
                (gzip.compress(body), {"Content-Encoding": "gzip"}),
            ):
                reply = self.node.request(
                    "POST", "/v1/models/identity_fp32:predict", content, headers
                )
                self.assertServed(reply)
                self.assertEqual(reply.json()["predictions"], [float(i) for i in range(rows)])
        rows = [{"a": i, "b": 1} for i in range(30_000)]
        reply = self.predict("adder", {"instances": rows})
        self.assertServed(reply)
        self.assertEqual(reply.json()["predictions"][-1], {"sum": 30_000, "difference": 29_998})

    def test_a_prediction_is_limited_recorded_and_timed_like_any_other(self) -> None:
        before = self.node.usage("adder")["requests"]
        reply = self.predict("adder", {"instances": [{"a": 1, "b": 2}]}, {"X-Request-Id": "mine-7"})
        self.assertServed(reply)
        self.assertEqual(reply.headers["X-Request-Id"], "mine-7")
        self.assertEqual(reply.headers["Mayfly-Version"], "1")
        self.assertIn(reply.tier, ("hot", "template", "cold"))
        for part in ("queue", "start", "run"):
            self.assertRegex(reply.headers["Server-Timing"], rf"\b{part};dur=[0-9.]+")
        self.assertEqual(self.node.usage("adder")["requests"], before + 1)
        large = b'{"instances":[' + b" " * (5 << 20) + b"1]}"
        reply = self.node.request("POST", "/v1/models/identity_fp32:predict", large)
        self.assertRefused(reply, 413, "too_large", "max_body")

    def test_what_does_not_fit_is_refused_with_what_is_wrong(self) -> None:
        row = {"a": 1, "b": 2}
        cases = (
            ("digits", {"instances": [[1] * 64, [1] * 63]}, "pixels"),
            ("digits", {"instances": [1, 2]}, "pixels"),
            ("adder", {"instances": [1, 2]}, "takes 2 inputs"),
            ("adder", {"instances": [row, {"a": 1}]}, "instance 1: input 'b': is missing"),
            ("adder", {"instances": [row | {"c": 3}]}, "instance 0: input 'c'"),
            ("adder", {"instances": [{"a": "x", "b": 2}]}, "input 'a'"),
            ("adder", {"inputs": {"a": [1]}}, "input 'b'"),
            ("adder", {"inputs": {"a": [1, 2, 3], "b": [1, 2]}}, "broadcast"),
            ("identity_bytes", {"instances": [{"b64": "?"}]}, "b64"),
            ("identity_fp32", {"instances": []}, "empty"),
            ("identity_fp32", {"instances": [1], "inputs": [1]}, "not both"),
            ("identity_fp32", {"signature_name": "x", "instances": [1]}, "serving_default"),
            ("identity_fp32", {}, "instances"),
            ("identity_fp32", [1], ""),
        )
        for name, body, text in cases:
            with self.subTest(name, body=body):
                self.assertRefused(self.predict(name, body), 400, text=text)
        deep = b'{"instances":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
        reply = self.node.request("POST", "/v1/models/identity_fp32:predict", deep)
        self.assertIn(reply.status, (400, 413))
        self.assertServed(self.predict("identity_fp32", {"instances": [1]}))

    # Models

    def test_versions_are_asked_for_by_path_or_name(self) -> None:
        self.node.deploy("versions", "identity_fp32")
        self.node.deploy("versions", "identity_fp32")
        for path, version in (
            ("versions", "2"),
            ("versions/versions/1", "1"),
            ("versions@1", "1"),
            ("versions%401", "1"),
        ):
            reply = self.predict(path, {"instances": [1]})
            self.assertServed(reply)
            self.assertEqual(reply.headers["Mayfly-Version"], version)
        for path, versions in (
            ("versions", ["2", "1"]),
            ("versions/versions/1", ["1"]),
            ("versions@2", ["2"]),
        ):
            reply = self.node.request("GET", f"/v1/models/{path}")
            self.assertServed(reply)
            expected = [
                {
                    "version": version,
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
                for version in versions
            ]
            self.assertEqual(reply.json(), {"model_version_status": expected})
        for path in ("versions/versions/7", "versions@7", "nothing"):
            for reply in (
                self.predict(path, {"instances": [1]}),
                self.node.request("GET", f"/v1/models/{path}"),
                self.node.request("GET", f"/v1/models/{path}/metadata"),
            ):
                self.assertRefused(reply, 404)
        self.assertRefused(
            self.predict("nothing", {"instances": [1]}), 404, "unknown_function", "Latest(nothing)"
        )

    def test_metadata_is_the_signature(self) -> None:
        reply = self.node.request("GET", "/v1/models/iris/metadata")
        self.assertServed(reply)
        document = reply.json()
        self.assertEqual(
            document["model_spec"], {"name": "iris", "signature_name": "", "version": "1"}
        )
        signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
        self.assertEqual(signature["method_name"], "tensorflow/serving/predict")
        self.assertEqual(set(signature["inputs"]), set(FLOWER))
        self.assertEqual(
            signature["inputs"]["petal_width"],
            {
                "dtype": "DT_FLOAT",
                "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
                "name": "petal_width:0",
            },
        )
        self.assertEqual(signature["outputs"]["label"]["dtype"], "DT_STRING")
        same = self.node.request("GET", "/v1/models/iris/versions/1/metadata")
        self.assertEqual(same.body, reply.body)

    def test_what_is_not_served_says_so(self) -> None:
        for path in ("iris:classify", "iris:regress", "iris/versions/1:classify"):
            reply = self.node.post_json(f"/v1/models/{path}", {"examples": [FLOWER]})
            self.assertRefused(reply, 501, "unsupported", ":predict")
        for method, path, status in (
            ("POST", "/v1/models/iris:train", 404),
            ("POST", "/v1/models/iris", 405),
            ("GET", "/v1/models/iris:predict", 405),
            ("GET", "/v1/models", 404),
        ):
            with self.subTest(f"{method} {path}"):
                reply = self.node.request(method, path, b"{}" if method == "POST" else None)
                self.assertRefused(reply, status)
