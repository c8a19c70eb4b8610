"""The Open Inference Protocol over gRPC: the official client, and what it does not send as bare calls."""

from __future__ import annotations

import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc as triton
from case import NodeCase
from node import MODELS, Node, variant, wait_until
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from models.protocol import ALL_DATATYPES, EDGES

VALUES = EDGES | {
    "FP16": np.array([0.1, -0.0, 65504, 6e-8], np.float16),
    "BF16": np.array([1.0, -0.0, 0.5], np.float32),
    "BYTES": np.array([b"", b"a\0b", "Grüße".encode(), b"\xff\xfe", b"x" * 70_000], dtype=object),
}
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
HEALTH = "/grpc.health.v1.Health/"


def tensor(name: str, datatype: str, value: np.ndarray) -> triton.InferInput:
    made = triton.InferInput(name, value.shape, datatype)
    made.set_data_from_numpy(value)
    return made


def adder_request(**rest) -> pb.ModelInferRequest:
    """a + b of adder with raw contents [1, 2] and [3, 4]."""
    shape = {"datatype": "FP32", "shape": [2]}
    return pb.ModelInferRequest(
        model_name=rest.pop("model_name", "adder"),
        inputs=[
            pb.ModelInferRequest.InferInputTensor(name="a", **shape),
            pb.ModelInferRequest.InferInputTensor(name="b", **shape),
        ],
        raw_input_contents=[
            np.array([1, 2], np.float32).tobytes(),
            np.array([3, 4], np.float32).tobytes(),
        ],
        **rest,
    )


IRIS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def iris_tensors(rows: int) -> list[triton.InferInput]:
    value = np.linspace(0.2, 6, rows).astype(np.float32)
    return [tensor(name, "FP32", value) for name in IRIS]


class GrpcCase(NodeCase):
    def setUp(self) -> None:
        self.client = triton.InferenceServerClient(self.node.grpc)
        self.addCleanup(self.client.close)
        self.channel = grpc.insecure_channel(self.node.grpc)
        self.addCleanup(self.channel.close)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def assertStatus(self, code: grpc.StatusCode, reason: str | None, call, *arguments, **options):
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments, **options)
        error = caught.exception
        self.assertEqual(error.code(), code, error.details())
        if reason is not None:
            self.assertEqual(dict(error.trailing_metadata()).get("mayfly-reason"), reason)
        return error.details()


class GrpcTest(GrpcCase):
    functions = {f"identity_{d.lower()}": f"identity_{d.lower()}" for d in ALL_DATATYPES} | {
        "adder": "adder",
        "iris": "iris",
        "slow": "slow",
    }
    arguments = ("--max-body", "1MiB", "--max-reply", "1MiB")

    def test_health_and_metadata(self) -> None:
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("adder"))
        self.assertFalse(self.client.is_model_ready("nothing"))
        server = self.client.get_server_metadata()
        self.assertEqual(server.name, "mayfly")
        self.assertIn("statistics", server.extensions)
        model = self.client.get_model_metadata("adder")
        self.assertEqual(
            [(i.name, i.datatype, list(i.shape)) for i in model.inputs],
            [("a", "FP32", [-1]), ("b", "FP32", [-1])],
        )
        self.assertEqual((model.platform, list(model.versions)), ("onnxruntime_onnx", ["1"]))
        details = self.assertStatus(
            grpc.StatusCode.NOT_FOUND,
            "unknown_function",
            self.stub.ModelMetadata,
            pb.ModelMetadataRequest(name="nothing"),
        )
        self.assertEqual(details, "Request for unknown model: 'nothing' is not found")

    def test_every_datatype_survives_in_raw_contents(self) -> None:
        for datatype, value in VALUES.items():
            with self.subTest(datatype):
                name = f"identity_{datatype.lower()}"
                answer = self.client.infer(name, [tensor("x", datatype, value)]).as_numpy("y")
                if datatype == "BYTES":
                    self.assertEqual(list(answer), list(value))
                elif datatype == "BF16":
                    self.assertEqual(
                        (answer.view(np.uint32) >> 16).tolist(),
                        (value.view(np.uint32) >> 16).tolist(),
                    )
                else:
                    self.assertEqual(answer.tobytes(), value.tobytes())

    def test_typed_contents_are_the_same_as_raw_ones_for_every_datatype(self) -> None:
        for datatype, field in CONTENTS.items():
            with self.subTest(datatype):
                value = VALUES[datatype]
                name = f"identity_{datatype.lower()}"
                request = pb.ModelInferRequest(model_name=name)
                given = request.inputs.add(name="x", datatype=datatype, shape=value.shape)
                getattr(given.contents, field).extend(value.ravel().tolist())
                typed = self.stub.ModelInfer(request).raw_output_contents
                raw = self.client.infer(name, [tensor("x", datatype, value)]).get_response()
                self.assertEqual(list(typed), list(raw.raw_output_contents))

    def test_http_and_grpc_answer_bit_for_bit_the_same(self) -> None:
        over_grpc = self.client.infer("iris", iris_tensors(5))
        data = np.linspace(0.2, 6, 5).astype(np.float32).tolist()
        reply = self.node.infer(
            "iris",
            *({"name": n, "datatype": "FP32", "shape": [5], "data": data} for n in IRIS),
        )
        self.assertServed(reply)
        for output in reply.json()["outputs"]:
            answer = over_grpc.as_numpy(output["name"]).ravel()
            if output["datatype"] == "BYTES":
                self.assertEqual([text.decode() for text in answer], output["data"])
            else:
                self.assertEqual(answer.tolist(), np.array(output["data"], answer.dtype).tolist())

    def test_the_reply_headers_of_http_are_trailing_metadata(self) -> None:
        _, call = self.stub.ModelInfer.with_call(
            adder_request(id="order-66"), metadata=[("x-request-id", "r-1")]
        )
        trailing = dict(call.trailing_metadata())
        self.assertEqual(trailing["mayfly-version"], "1")
        self.assertEqual(trailing["x-request-id"], "r-1")
        self.assertIn(trailing["mayfly-start"], ("hot", "template", "cold"))
        self.assertEqual(len(trailing["mayfly-invocation"]), 36)
        self.assertRegex(trailing["server-timing"], r"^queue;dur=[\d.]+, start;dur=.*, run;dur=")

    def test_ids_outputs_and_zero_length_tensors(self) -> None:
        answer = self.stub.ModelInfer(
            adder_request(
                id="order-66",
                outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="difference")],
            )
        )
        self.assertEqual((answer.id, answer.model_name, answer.model_version), ("order-66", "adder", "1"))
        self.assertEqual([o.name for o in answer.outputs], ["difference"])
        empty = self.client.infer("identity_fp32", [tensor("x", "FP32", np.zeros(0, np.float32))])
        self.assertEqual(empty.as_numpy("y").shape, (0,))

    def test_a_split_is_sticky_by_mayfly_key(self) -> None:
        self.node.deploy("split", "adder")
        self.node.cli("deploy", "split", str(MODELS / "adder"), "--canary", "50")
        for key in ("a", "b", "c", "d", "e", "f"):
            chosen = set()
            for _ in range(4):
                answer, _ = self.stub.ModelInfer.with_call(
                    adder_request(model_name="split"), metadata=[("mayfly-key", key)]
                )
                chosen.add(answer.model_version)
            self.assertEqual(len(chosen), 1, key)

    def test_what_is_wrong_is_refused_with_code_and_reason(self) -> None:
        infer = self.stub.ModelInfer
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        missing = adder_request()
        del missing.inputs[1]
        del missing.raw_input_contents[1]
        short = adder_request()
        short.raw_input_contents[0] = b"1234567"
        fewer = adder_request()
        del fewer.raw_input_contents[1]
        mixed = adder_request()
        mixed.inputs[0].contents.fp32_contents.extend([1, 2])
        misplaced = adder_request()
        del misplaced.raw_input_contents[:]
        for given in misplaced.inputs:
            given.contents.fp64_contents.extend([1, 2])
        unknown = adder_request(
            outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="product")]
        )
        half = pb.ModelInferRequest(model_name="identity_fp16")
        half.inputs.add(name="x", datatype="FP16", shape=[1]).contents.fp32_contents.append(1)
        narrow = pb.ModelInferRequest(model_name="identity_int8")
        narrow.inputs.add(name="x", datatype="INT8", shape=[1]).contents.int_contents.append(128)
        shared = adder_request()
        shared.inputs[0].parameters["shared_memory_x"].string_param = "r"
        cases = [
            (missing, invalid, "invalid_input", "'b'"),
            (short, invalid, "invalid_input", "has 7 bytes"),
            (fewer, invalid, "bad_request", "raw_input_contents"),
            (mixed, invalid, "invalid_input", "beside raw_input_contents"),
            (misplaced, invalid, "invalid_input", "field for FP32"),
            (unknown, invalid, "invalid_input", "product"),
            (half, invalid, "invalid_input", "raw_input_contents"),
            (narrow, invalid, "invalid_input", "128"),
            (shared, grpc.StatusCode.UNIMPLEMENTED, "unsupported", "shared_memory_x"),
            (
                adder_request(model_version="7"),
                grpc.StatusCode.NOT_FOUND,
                "unknown_version",
                "'adder' version 7 is not found",
            ),
        ]
        for request, code, reason, text in cases:
            with self.subTest(text):
                self.assertIn(text, self.assertStatus(code, reason, infer, request))
        self.assertEqual(len(infer(adder_request()).raw_output_contents), 2)

    def test_bytes_that_are_no_message_are_refused(self) -> None:
        bare = self.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self.assertStatus(grpc.StatusCode.INVALID_ARGUMENT, "bad_request", bare, b"\xff\xff\xff")

    def test_a_message_of_countless_parts_is_refused_before_it_is_taken_apart(self) -> None:
        bare = self.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        inputs = b"\x2a\x00" * 200_000  # inputs {} {} {} …
        self.assertStatus(grpc.StatusCode.OUT_OF_RANGE, "too_large", bare, inputs)

    def test_deadlines_end_requests(self) -> None:
        request = pb.ModelInferRequest(model_name="slow")
        self.fill_slow(request)
        self.assertStatus(
            grpc.StatusCode.DEADLINE_EXCEEDED, None, self.stub.ModelInfer, request, timeout=0.3
        )
        request.parameters["timeout"].int64_param = 200_000  # µs
        self.assertStatus(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "deadline_exceeded",
            self.stub.ModelInfer,
            request,
            timeout=60,
        )

    def test_a_cancelled_call_ends_its_instance(self) -> None:
        request = pb.ModelInferRequest(model_name="slow")
        self.fill_slow(request)
        call = self.stub.ModelInfer.future(request)
        wait_until(lambda: self.node.running("slow")[0] > 0, "it runs")
        call.cancel()
        wait_until(lambda: self.node.running("slow")[0] == 0, "its instance has gone")

    def fill_slow(self, request: pb.ModelInferRequest) -> None:
        metadata = self.client.get_model_metadata("slow")
        example = np.array([1_000_000], np.int64)
        for given in metadata.inputs:
            request.inputs.add(name=given.name, datatype=given.datatype, shape=[1])
            request.raw_input_contents.append(example.tobytes())

    def test_sizes_are_bounded_both_ways(self) -> None:
        large = np.zeros(300_000, np.float32)  # 1.2 MB
        with self.assertRaisesRegex(InferenceServerException, "larger than max"):
            self.client.infer("identity_fp32", [tensor("x", "FP32", large)])
        fits = np.zeros(250_000, np.float32)
        answer = self.client.infer("identity_fp32", [tensor("x", "FP32", fits)])
        self.assertEqual(answer.as_numpy("y").size, fits.size)

    def test_compressed_messages_are_refused_with_the_reason(self) -> None:
        with self.assertRaisesRegex(InferenceServerException, "gzip"):
            self.client.infer(
                "identity_fp32",
                [tensor("x", "FP32", np.zeros(1000, np.float32))],
                compression_algorithm="gzip",
            )

    def test_classification(self) -> None:
        value = np.array([0.1, 0.7, 0.2], np.float32)
        wanted = [triton.InferRequestedOutput("y", class_count=2)]
        answer = self.client.infer("identity_fp32", [tensor("x", "FP32", value)], outputs=wanted)
        self.assertEqual(answer.as_numpy("y").tolist(), [b"0.7:1", b"0.2:2"])

    def test_concurrent_requests_get_their_own_answers(self) -> None:
        def one(number: int) -> bool:
            value = np.full(100, number)
            answer = self.client.infer("identity_int64", [tensor("x", "INT64", value)])
            return bool((answer.as_numpy("y") == number).all())

        with ThreadPoolExecutor(8) as pool:
            self.assertTrue(all(pool.map(one, range(400))))

    def test_what_is_not_served_says_so(self) -> None:
        unimplemented = grpc.StatusCode.UNIMPLEMENTED
        for method, request, text in (
            ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(), "shared memory"),
            ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(), "client_shm.uid"),
            ("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(), "client_shm.uid"),
            ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest(), "GPU"),
            ("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(), "GPU"),
            ("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest(), "GPU"),
            ("TraceSetting", pb.TraceSettingRequest(), "server-timing"),
            ("LogSettings", pb.LogSettingsRequest(), "log.level"),
        ):
            with self.subTest(method):
                details = self.assertStatus(
                    unimplemented, "unsupported", getattr(self.stub, method), request
                )
                self.assertIn(text, details)
        nothing = self.channel.unary_unary("/inference.GRPCInferenceService/Nothing")
        self.assertStatus(unimplemented, "unsupported", nothing, b"")
        other = self.channel.unary_unary("/other.Service/Method")
        self.assertIn("other.Service", self.assertStatus(unimplemented, "unsupported", other, b""))

    def test_health_of_node_and_models(self) -> None:
        check = self.channel.unary_unary(HEALTH + "Check")
        serving, named = b"\x08\x01", lambda name: b"\x0a" + bytes([len(name)]) + name.encode()
        self.assertEqual(check(b""), serving)
        self.assertEqual(check(named("inference.GRPCInferenceService")), serving)
        self.assertEqual(check(named("adder")), serving)
        self.assertStatus(grpc.StatusCode.NOT_FOUND, None, check, named("nothing"))

    def test_a_watcher_learns_of_a_model_that_comes_and_goes(self) -> None:
        watch = self.channel.unary_stream(HEALTH + "Watch")
        seen = watch(b"\x0a\x05later", timeout=60)
        self.assertEqual(next(seen), b"\x08\x03")  # SERVICE_UNKNOWN
        self.node.deploy("later", "adder")
        self.assertEqual(next(seen), b"\x08\x01")
        self.node.cli("delete", "later", "--yes")
        self.assertEqual(next(seen), b"\x08\x03")
        seen.cancel()


class GrpcStreamTest(GrpcCase):
    functions = {"adder": "adder", "identity_int64": "identity_int64"}

    def test_answers_come_in_the_order_of_the_requests_and_errors_do_not_end_the_stream(self) -> None:
        answers: queue.Queue = queue.Queue()
        self.client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(100):
            model = "nothing" if number % 10 == 3 else "identity_int64"
            value = np.full(3, number)
            self.client.async_stream_infer(model, [tensor("x", "INT64", value)], request_id=str(number))
        for number in range(100):
            result, error = answers.get(timeout=60)
            if number % 10 == 3:
                self.assertIn("unknown model: 'nothing'", str(error))
            else:
                self.assertIsNone(error)
                self.assertEqual(result.get_response().id, str(number))
                self.assertEqual(result.as_numpy("y").tolist(), [number] * 3)
        self.client.stop_stream()

    def test_a_failed_request_of_a_stream_names_its_id(self) -> None:
        requests = iter([adder_request(id="one", model_name="nothing"), adder_request(id="two")])
        first, second = list(self.stub.ModelStreamInfer(requests, timeout=60))
        self.assertIn("nothing", first.error_message)
        self.assertEqual(first.infer_response.id, "one")
        self.assertEqual(second.error_message, "")
        self.assertEqual(second.infer_response.id, "two")
        self.assertEqual(len(second.infer_response.raw_output_contents), 2)

    def test_a_client_that_leaves_harms_nobody(self) -> None:
        for _ in range(20):
            channel = grpc.insecure_channel(self.node.grpc)
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stream = stub.ModelStreamInfer(iter([adder_request()] * 30))
            next(stream)
            channel.close()
        self.assertEqual(len(self.stub.ModelInfer(adder_request()).raw_output_contents), 2)


class GrpcRepositoryTest(GrpcCase):
    functions = {"adder": "adder", "iris": "iris"}

    def statistics(self, name: str):
        return self.client.get_inference_statistics(name).model_stats[0]

    def test_statistics_count_what_was_sent(self) -> None:
        before = self.statistics("iris")
        for _ in range(7):
            self.client.infer("iris", iris_tensors(3))
        with self.assertRaises(InferenceServerException):
            self.client.infer("iris", iris_tensors(3)[:2])
        after = self.statistics("iris")
        self.assertEqual(after.inference_stats.success.count - before.inference_stats.success.count, 7)
        self.assertEqual(after.inference_stats.fail.count - before.inference_stats.fail.count, 1)
        self.assertEqual(after.inference_count - before.inference_count, 21)
        self.assertEqual(after.execution_count - before.execution_count, 7)
        self.assertGreater(after.inference_stats.compute_infer.ns, 0)
        self.assertGreaterEqual(
            after.inference_stats.success.ns,
            after.inference_stats.compute_infer.ns + after.inference_stats.queue.ns,
        )
        self.assertAlmostEqual(after.last_inference / 1000, time.time(), delta=60)
        self.assertEqual({b.batch_size for b in after.batch_stats}, {3})

    def test_configuration(self) -> None:
        config = self.client.get_model_config("adder").config
        self.assertEqual((config.name, config.backend), ("adder", "onnxruntime"))
        self.assertEqual([(i.name, list(i.dims)) for i in config.input], [("a", [-1]), ("b", [-1])])
        self.assertEqual(config.input[0].data_type, 11)  # TYPE_FP32
        self.assertEqual(config.max_batch_size, 0)

    def test_load_starts_and_unload_ends_processes(self) -> None:
        self.client.load_model("adder")
        self.assertEqual(self.node.running("adder")[1], 1)
        self.client.unload_model("adder")
        wait_until(lambda: self.node.running("adder") == (0, 0), "it is at zero")
        index = self.client.get_model_repository_index(as_json=True)["models"]
        self.assertIn({"name": "adder", "version": "1", "state": "READY"}, index)
        self.assertEqual(len(self.stub.ModelInfer(adder_request()).raw_output_contents), 2)
        with self.assertRaisesRegex(InferenceServerException, "unknown model: 'nothing'"):
            self.client.load_model("nothing")
        with self.assertRaisesRegex(InferenceServerException, "unknown model: 'nothing'"):
            self.client.unload_model("nothing")

    def test_load_with_files_deploys_a_version(self) -> None:
        model = (MODELS / "adder" / "model.onnx").read_bytes()
        self.client.load_model("uploaded", config="{}", files={"file:1/model.onnx": model})
        self.client.load_model(
            "uploaded", config='{"backend":"onnxruntime"}', files={"file:1/model.onnx": model}
        )
        self.assertEqual(self.node.versions("uploaded"), [1, 2])
        answer = self.stub.ModelInfer(adder_request(model_name="uploaded"))
        self.assertEqual(answer.model_version, "2")
        with self.assertRaisesRegex(InferenceServerException, "dynamic_batching"):
            self.client.load_model(
                "uploaded", config='{"dynamic_batching":{}}', files={"file:1/model.onnx": model}
            )
        with self.assertRaisesRegex(InferenceServerException, "fixed when it is deployed"):
            self.client.load_model("uploaded", config="{}")
        with self.assertRaises(InferenceServerException):
            self.client.load_model("broken", config="{}", files={"file:1/model.onnx": b"no model"})

    def test_swapping_versions_under_load_loses_no_request(self) -> None:
        self.node.deploy("swap", "adder")
        stop = threading.Event()
        failures: list[str] = []
        versions: set[str] = set()

        def ask() -> None:
            with grpc.insecure_channel(self.node.grpc) as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                while not stop.is_set():
                    try:
                        versions.add(stub.ModelInfer(adder_request(model_name="swap")).model_version)
                    except grpc.RpcError as error:
                        failures.append(f"{error.code()} {error.details()}")

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            for _ in range(4):
                self.node.deploy("swap", "adder")
            self.node.cli("rollback", "swap")
        finally:
            stop.set()
            for asker in askers:
                asker.join()
        self.assertEqual(failures, [])
        self.assertGreaterEqual(versions, {"1", "5"})


class GrpcNodeTest(NodeCase):
    functions = {"adder": "adder"}

    def test_it_can_be_off(self) -> None:
        node = Node("--grpc-listen", "off")
        self.addCleanup(node.close)
        self.assertEqual(node.grpc, "off")

    def test_a_taken_port_is_an_error_that_names_the_setting(self) -> None:
        with self.assertRaisesRegex(AssertionError, "server.grpc_listen"):
            Node("--grpc-listen", self.node.grpc)

    def test_an_idle_node_does_nothing_for_grpc(self) -> None:
        with grpc.insecure_channel(self.node.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stub.ModelInfer(adder_request())

        def switches() -> dict[str, int]:
            counted: dict[str, int] = {}
            for thread in Path(f"/proc/{self.node.process.pid}/task").iterdir():
                name = (thread / "comm").read_text().strip()
                status = (thread / "status").read_text()
                line = next(l for l in status.splitlines() if l.startswith("voluntary_ctxt"))
                counted[name] = counted.get(name, 0) + int(line.split()[1])
            return counted

        time.sleep(1)
        before, began = switches(), time.monotonic()
        time.sleep(3)
        woken = {name: n - before.get(name, 0) for name, n in switches().items()}
        elapsed = time.monotonic() - began
        self.assertEqual(woken["grpc"], 0)
        # gRPC's two timer threads look a few times a second, whatever happens; the loop watches memory.
        busy = {name for name, times in woken.items() if times > 8 * elapsed}
        self.assertEqual(busy, set(), woken)

    def test_a_draining_node_ends_streams_and_finishes_what_runs(self) -> None:
        node = Node()
        node.deploy("adder")
        with grpc.insecure_channel(node.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            more: queue.Queue = queue.Queue()
            more.put(adder_request())
            stream = stub.ModelStreamInfer(iter(more.get, None))
            self.assertEqual(next(stream).error_message, "")
            watch = channel.unary_stream(HEALTH + "Watch")(b"")
            self.assertEqual(next(watch), b"\x08\x01")
            begun = time.monotonic()
            node.close()  # the stream waits for its client, and is ended
            self.assertLess(time.monotonic() - begun, 20)
            self.assertEqual(list(stream), [])
            self.assertEqual(next(watch), b"\x08\x02")
            more.put(None)
