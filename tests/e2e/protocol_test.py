"""The Open Inference Protocol's extensions over HTTP, and its checklist of paths and methods."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.grpc
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from case import NodeCase
from node import MODELS, tensor, wait_until
from tritonclient.utils import InferenceServerException

IRIS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def iris_inputs(rows: int) -> list[dict]:
    return [tensor(name, "FP32", [rows], [1.0] * rows) for name in IRIS]


class ProtocolTest(NodeCase):
    functions = {"adder": "adder", "iris": "iris", "identity_fp32": "identity_fp32"}

    def setUp(self) -> None:
        self.client = triton.InferenceServerClient(f"127.0.0.1:{self.node.port}", network_timeout=60)
        self.addCleanup(self.client.close)

    def statistics(self, name: str) -> dict:
        return self.client.get_inference_statistics(name)["model_stats"][0]

    def test_every_path_has_its_status_for_known_and_unknown_models_and_wrong_methods(self) -> None:
        served = [
            ("GET", "/v2/models/{}"),
            ("GET", "/v2/models/{}/versions/1"),
            ("GET", "/v2/models/{}/ready"),
            ("GET", "/v2/models/{}/versions/1/ready"),
            ("GET", "/v2/models/{}/config"),
            ("GET", "/v2/models/{}/versions/1/config"),
            ("GET", "/v2/models/{}/stats"),
            ("GET", "/v2/models/{}/versions/1/stats"),
            ("POST", "/v2/models/{}/infer"),
            ("POST", "/v2/models/{}/versions/1/infer"),
            ("POST", "/v2/repository/models/{}/load"),
            ("POST", "/v2/repository/models/{}/unload"),
        ]
        example = (MODELS / "adder" / "example.json").read_bytes()
        for method, path in served:
            body = example if path.endswith("infer") else None
            with self.subTest(f"{method} {path}"):
                self.assertServed(self.node.request(method, path.format("adder"), body))
                unknown = self.node.request(method, path.format("nothing"), body)
                self.assertRefused(unknown, 404, "unknown_function", "unknown model: 'nothing'")
                wrong = self.node.request("DELETE", path.format("adder"))
                self.assertRefused(wrong, 405, "method_not_allowed")
        for path in ("/v2/nothing", "/v2/models/adder/nothing", "/v2/repository"):
            self.assertRefused(self.node.request("GET", path), 404, "not_found", "Not Found")

    def test_what_is_not_served_says_what_to_do_instead(self) -> None:
        for method, path, text in (
            ("POST", "/v2/models/adder/generate", "/infer"),
            ("POST", "/v2/models/adder/generate_stream", "/infer"),
            ("GET", "/v2/systemsharedmemory/status", "in the request"),
            ("POST", "/v2/systemsharedmemory/region/r/register", "in the request"),
            ("POST", "/v2/cudasharedmemory/region/r/unregister", "GPU"),
            ("GET", "/v2/logging", "log.level"),
            ("GET", "/v2/models/adder/trace/setting", "Server-Timing"),
        ):
            with self.subTest(path):
                self.assertRefused(self.node.request(method, path), 501, "unsupported", text)

    def test_statistics_count_what_was_sent(self) -> None:
        before = self.statistics("iris")
        for _ in range(5):
            self.assertServed(self.node.infer("iris", *iris_inputs(3)))
        self.assertEqual(self.node.infer("iris", *iris_inputs(3)[:1]).status, 400)
        self.assertServed(self.node.request("POST", "/functions/iris", b'{"sepal_length": 1, '
                          b'"sepal_width": 1, "petal_length": 1, "petal_width": 1}'))
        after = self.statistics("iris")

        def grown(*keys: str) -> int:
            old, new = before, after
            for key in keys:
                old, new = old[key], new[key]
            return new - old

        self.assertEqual(grown("inference_stats", "success", "count"), 6)
        self.assertEqual(grown("inference_stats", "fail", "count"), 1)
        self.assertEqual(grown("inference_count"), 16)
        self.assertEqual(grown("execution_count"), 6)
        self.assertGreater(grown("inference_stats", "compute_infer", "ns"), 0)
        self.assertEqual(self.statistics("iris@1")["version"], "1")
        names = {m["name"] for m in self.client.get_inference_statistics()["model_stats"]}
        self.assertIn("iris", names)

    def test_statistics_of_a_deleted_function_are_forgotten(self) -> None:
        self.node.deploy("gone", "adder")
        self.node.example("gone", "adder")
        self.assertEqual(self.statistics("gone")["execution_count"], 1)
        self.node.cli("delete", "gone", "--yes")
        self.node.deploy("gone", "adder")
        self.assertEqual(self.statistics("gone")["execution_count"], 0)

    def test_a_request_under_way_brings_no_deleted_function_back(self) -> None:
        self.node.deploy("going", "slow")
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(self.node.infer, "going", tensor("count", "INT64", [1], [1000]))

            def running() -> bool:
                functions = self.node.request("GET", "/api/v1/top").json()["functions"]
                return any(one["name"] == "going" and one["running"] for one in functions)

            self.node.wait_until(running, "the request runs")
            self.node.request("DELETE", "/api/v1/functions/going?force=true")
            self.assertFalse(asked.done())
            self.assertServed(asked.result())
        everything = self.client.get_inference_statistics()["model_stats"]
        self.assertNotIn("going", {entry["name"] for entry in everything})

    def test_configuration(self) -> None:
        config = self.client.get_model_config("adder")
        self.assertEqual(config["backend"], "onnxruntime")
        self.assertEqual(config["input"][0], {"name": "a", "data_type": "TYPE_FP32", "dims": [-1]})
        self.assertEqual(config["max_batch_size"], 0)

    def test_the_index_needs_no_body_and_no_content_length(self) -> None:
        raw = self.node.raw(b"POST /v2/repository/index HTTP/1.1\r\nHost: localhost\r\n"
                            b"Connection: close\r\n\r\n")
        self.assertIn(b" 200 ", raw.split(b"\r\n")[0])
        index = self.client.get_model_repository_index()
        self.assertIn({"name": "adder", "version": "1", "state": "READY", "reason": ""}, index)

    def test_an_input_without_rows_beside_others_gets_nobody_elses_answer(self) -> None:
        ones = {name: [1.0] for name in IRIS}
        self.assertServed(self.node.infer("iris", *(tensor(n, "FP32", [1], [1.0]) for n in IRIS)))
        for name in IRIS:
            none = [tensor(n, "FP32", [0 if n == name else 1], [] if n == name else [1.0]) for n in IRIS]
            over_grpc = [tritonclient.grpc.InferInput(n, [0 if n == name else 1], "FP32") for n in IRIS]
            for given in over_grpc:
                given.set_data_from_numpy(np.ones(given.shape(), np.float32))
            self.assertRefused(self.node.infer("iris", *none), 400, "invalid_input")
            plain = json.dumps(ones | {name: []})
            self.assertRefused(self.node.request("POST", "/functions/iris", plain), 400, "invalid_input")
            columns = json.dumps({"inputs": ones | {name: []}})
            self.assertEqual(self.node.request("POST", "/v1/models/iris:predict", columns).status, 400)
            with tritonclient.grpc.InferenceServerClient(self.node.grpc) as client:
                with self.assertRaisesRegex(InferenceServerException, f"'{name}': has no rows"):
                    client.infer("iris", over_grpc)

    def test_load_starts_and_unload_ends_processes(self) -> None:
        self.client.load_model("adder")
        self.assertEqual(self.node.running("adder")[1], 1)
        self.client.unload_model("adder")
        wait_until(lambda: self.node.running("adder") == (0, 0), "it is at zero")
        self.assertTrue(self.client.is_model_ready("adder"))
        self.assertServed(self.node.example("adder"))

    def test_load_with_files_deploys_a_version(self) -> None:
        model = (MODELS / "adder" / "model.onnx").read_bytes()
        self.client.load_model("uploaded", config="{}", files={"file:1/model.onnx": model})
        self.assertEqual(self.node.versions("uploaded"), [1])
        self.assertServed(self.node.example("uploaded", "adder"))
        history = self.node.request("GET", "/api/v1/functions/uploaded/history").json()["history"]
        self.assertIn("load", str(history))

        def refused(parameters: dict, status: int, text: str) -> None:
            path = "/v2/repository/models/uploaded/load"
            reply = self.node.post_json(path, {"parameters": parameters})
            self.assertRefused(reply, status, text=text)

        encoded = base64.b64encode(model).decode()
        refused({"file:1/model.onnx": "no base64!"}, 400, "base64")
        refused({"file:model.onnx": encoded}, 400, "file:1/model.onnx")
        refused({"file:1/../model.onnx": encoded}, 400, "file:1/model.onnx")
        refused({"file:1/a.onnx": encoded, "file:2/b.onnx": encoded}, 501, "one version at a time")
        refused({"file:1/model.onnx": encoded, "config": '{"input":[]}'}, 501, "'input'")
        refused({"config": "{}"}, 501, "fixed when it is deployed")
        refused({"file:1/model.onnx": base64.b64encode(b"no model").decode()}, 422, "")
        self.assertEqual(self.node.versions("uploaded"), [1])

    def test_a_foreign_page_may_not_load(self) -> None:
        for path in ("/v2/repository/models/adder/load", "/v2/repository/models/adder/unload"):
            reply = self.node.request("POST", path, b"{}", {"Origin": "https://evil.example"})
            self.assertRefused(reply, 403, "forbidden_origin")

    def test_classification(self) -> None:
        value = np.array([0.1, 0.7, 0.2], np.float32)
        for binary in (True, False):
            given = triton.InferInput("x", value.shape, "FP32")
            given.set_data_from_numpy(value)
            wanted = [triton.InferRequestedOutput("y", binary_data=binary, class_count=2)]
            answer = self.client.infer("identity_fp32", [given], outputs=wanted)
            texts = [t.decode() if isinstance(t, bytes) else t for t in answer.as_numpy("y")]
            self.assertEqual(texts, ["0.7:1", "0.2:2"], f"binary={binary}")

    def test_the_asyncio_client(self) -> None:
        async def ask() -> list:
            async with triton_aio.InferenceServerClient(f"127.0.0.1:{self.node.port}") as client:
                self.assertTrue(await client.is_server_ready())

                async def one(number: int) -> bool:
                    value = np.full(10, number, np.float32)
                    given = triton.InferInput("x", value.shape, "FP32")
                    given.set_data_from_numpy(value)
                    answer = await client.infer("identity_fp32", [given])
                    return bool((answer.as_numpy("y") == number).all())

                with self.assertRaises(InferenceServerException):
                    await client.get_model_metadata("nothing")
                return await asyncio.gather(*map(one, range(50)))

        self.assertTrue(all(asyncio.run(ask())))

    def test_swapping_versions_under_load_loses_no_request(self) -> None:
        self.node.deploy("swap", "adder")
        stop = threading.Event()
        wrong: list = []

        def ask() -> None:
            while not stop.is_set():
                reply = self.node.example("swap", "adder")
                if reply.status != 200:
                    wrong.append((reply.status, reply.body))

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        try:
            for _ in range(3):
                self.node.deploy("swap", "adder")
        finally:
            stop.set()
            for asker in askers:
                asker.join()
        self.assertEqual(wrong, [])
