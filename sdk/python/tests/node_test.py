"""Every call, with each client, against a real node."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import shutil
import ssl
import tempfile
import threading
import unittest
from decimal import Decimal
from pathlib import Path
from unittest import mock

import numpy as np

import sdk_case
from certificates import Authority
from node import MODELS, PATIENCE, Node, expected, variant
from sdk_case import SdkCase

import mayfly

SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


class CallCases:
    functions = {
        "iris": "iris",
        "logistic": "logistic",
        "fp32": "identity_fp32",
        "int64": "identity_int64",
        "bf16": "identity_bf16",
        "bytes": "identity_bytes",
        "orientation": "ocr_orientation",
    }

    def test_numbers_lists_and_arrays_are_inputs(self) -> None:
        first = self.mayfly.call("iris", SETOSA)
        self.assertEqual(first["label"].tolist(), ["setosa"])
        self.assertEqual(first["probabilities"].dtype, np.float32)
        as_arrays = {name: np.array([value] * 3) for name, value in SETOSA.items()}
        many = self.mayfly.call("iris", as_arrays)
        self.assertEqual(many["probabilities"].shape, (3, 3))
        np.testing.assert_array_equal(many["probabilities"][2], first["probabilities"][0])

    def test_a_reply_says_how_it_came_to_be(self) -> None:
        self.mayfly.evict("iris")
        reply = self.mayfly.call("iris@champion", SETOSA, request_id="my-request")
        self.assertEqual(reply.version, 1)
        self.assertIn(reply.start, ("cold", "template", "hot"))
        self.assertEqual(reply.request_id, "my-request")
        self.assertRegex(reply.invocation, "^[0-9a-f-]{36}$")
        self.assertGreater(reply.run_ms, 0)

    def test_the_only_input_needs_no_name_and_outputs_may_be_chosen(self) -> None:
        rows = json.loads((MODELS / "logistic" / "example.json").read_text())["inputs"][0]
        array = np.array(rows["data"], "f8").reshape(rows["shape"])
        labels = next(o for o in expected("logistic")["outputs"] if o["name"] == "label")
        reply = self.mayfly.call("logistic", array, outputs=["label"])
        self.assertEqual(list(reply), ["label"])
        self.assertEqual(reply["label"].tolist(), labels["data"])

    def test_values_that_json_does_not_have_come_back(self) -> None:
        given = np.array([np.nan, np.inf, -0.0, 3.4e38, 1e-45], "f4")
        np.testing.assert_array_equal(self.mayfly.call("fp32", given)["y"], given)
        np.testing.assert_array_equal(self.mayfly.call("bf16", [1.5, np.inf])["y"], [1.5, np.inf])
        edge = np.array([2**63 - 1, -(2**63)])
        np.testing.assert_array_equal(self.mayfly.call("int64", edge)["y"], edge)
        self.assertEqual(self.mayfly.call("bytes", ["ü", ""])["y"].tolist(), ["ü", ""])
        self.assertEqual(self.mayfly.call("bytes", [b"\xff"])["y"].tolist(), [b"\xff"])

    def test_large_tensors_go_and_come(self) -> None:
        given = np.random.default_rng(1).random(4 << 20, np.float32)
        np.testing.assert_array_equal(self.mayfly.call("fp32", given)["y"], given)

    def test_a_picture_is_an_input(self) -> None:
        picture = MODELS / "ocr_orientation" / "upside-down.png"
        by_path = self.mayfly.call("orientation", picture)["orientation"]
        by_bytes = self.mayfly.call("orientation", picture.read_bytes(), content_type="image/png")
        self.assertGreater(by_path[0, 1], 0.9)
        self.assertEqual(by_path.dtype, np.float32)
        np.testing.assert_array_equal(by_path, by_bytes["orientation"])
        self.assertFails(
            mayfly.InvalidRequest,
            self.mayfly.call,
            "orientation",
            b"no picture",
            content_type="image/png",
        )
        self.assertFails(
            mayfly.InvalidArgument,
            self.mayfly.call,
            "orientation",
            Path("/absent.png"),
            text="/absent.png",
        )

    def test_wrong_inputs_are_refused_with_what_is_expected(self) -> None:
        for inputs, text in (
            ({}, "'sepal_length' is missing"),
            ({**SETOSA, "colour": 1}, "no input 'colour'"),
            ({**SETOSA, "sepal_width": "wide"}, "'sepal_width': expected FP32, got texts"),
            ([1, 2, 3, 4], "expected a dict"),
        ):
            with self.subTest(text):
                self.assertFails(
                    mayfly.InvalidArgument, self.mayfly.call, "iris", inputs, text=text
                )
        wrong = self.assertFails(
            mayfly.InvalidRequest, self.mayfly.call, "logistic", np.ones((2, 29))
        )
        self.assertEqual((wrong.status, wrong.reason), (400, "invalid_input"))
        self.assertIn("describe(name)", wrong.hint)

    def test_a_pandas_frame_is_an_input(self) -> None:
        import pandas

        frame = pandas.DataFrame([{**SETOSA, "note": "not an input"}] * 2)
        self.assertEqual(self.mayfly.call("iris", frame)["label"].tolist(), ["setosa"] * 2)
        columns = pandas.DataFrame(np.ones((2, 30)))
        self.assertEqual(self.mayfly.call("logistic", columns)["label"].shape, (2,))
        self.assertFails(
            mayfly.InvalidArgument, self.mayfly.call, "iris", frame[["note"]], text="no column"
        )

    def test_what_is_not_there_is_not_found(self) -> None:
        error = self.assertFails(mayfly.NotFound, self.mayfly.call, "absent", SETOSA)
        self.assertEqual((error.status, error.reason), (404, "unknown_function"))
        self.assertFails(mayfly.NotFound, self.mayfly.describe, "iris@7")


class CallTest(CallCases, SdkCase):
    def test_module_functions_follow_the_environment(self) -> None:
        with mock.patch.dict(os.environ, {"MAYFLY_URL": self.node.url}):
            self.assertTrue(mayfly.is_ready())
            self.assertEqual(mayfly.call("iris", SETOSA)["label"].tolist(), ["setosa"])
            client = mayfly.default_client()
            self.assertIs(mayfly.default_client(), client)
        with mock.patch.dict(os.environ, {"MAYFLY_URL": "http://127.0.0.1:9"}):
            self.assertIsNot(mayfly.default_client(), client)


class AsyncCallTest(CallCases, SdkCase):
    asynchronous = True

    def test_many_calls_run_together(self) -> None:
        async def ask() -> list[mayfly.Prediction]:
            async with mayfly.AsyncClient(self.node.url) as client:
                return await asyncio.gather(*(client.call("fp32", [float(n)]) for n in range(200)))

        self.assertEqual(
            [reply["y"].tolist() for reply in asyncio.run(ask())], [[float(n)] for n in range(200)]
        )


class LifeCases:
    def name(self) -> str:
        """Of a function that no other test has."""
        return f"f-{self.id().rsplit('.', 1)[1][5:50].replace('_', '-').rstrip('-')}".lower()

    def test_a_file_a_folder_and_bytes_are_deployed(self) -> None:
        name, model = self.name(), MODELS / "iris" / "model.onnx"
        told: list[str] = []
        first = self.mayfly.deploy(name, model, example=SETOSA, on_progress=told.append)
        self.assertEqual((first.function, first.version, first.traffic), (name, 1, 100))
        self.assertTrue(any(line.startswith("publishing") for line in told), told)
        second = self.mayfly.deploy(name, str(MODELS / "iris"), traffic=0)
        self.assertEqual((second.version, second.traffic), (2, 0))
        third = self.mayfly.deploy(name, model.read_bytes(), options={"timeout": "7s"})
        self.assertEqual(self.mayfly.describe(f"{name}@{third.version}").options["timeout"], "7s")
        self.assertEqual(self.mayfly.call(name, SETOSA).version, 3)

    def test_a_bad_model_is_refused_with_the_nodes_words(self) -> None:
        for model, kind, reason in (
            (b"garbage", mayfly.InvalidRequest, "invalid_model"),
            (MODELS / "unknown_op", mayfly.InvalidRequest, "invalid_model"),
            (MODELS / "unknown_setting", mayfly.InvalidRequest, "invalid_manifest"),
        ):
            with self.subTest(model=model):
                error = self.assertFails(kind, self.mayfly.deploy, self.name(), model)
                self.assertEqual(error.reason, reason)
        self.assertFails(
            mayfly.InvalidArgument, self.mayfly.deploy, "x", object(), text="builtins.object"
        )

    def test_another_signature_under_the_same_name_is_noticed(self) -> None:
        name = self.name()
        self.mayfly.deploy(name, MODELS / "iris")
        self.mayfly.call(name, SETOSA)
        other = self.client(self.node.url)
        other.deploy(name, MODELS / "identity_int64")
        self.assertEqual(self.mayfly.call(name, [7])["y"].tolist(), [7])  # refused here at first
        other.deploy(name, MODELS / "identity_fp32")
        self.assertEqual(
            self.mayfly.call(name, [7])["y"].tolist(), [7]
        )  # refused by the node at first

    def test_traffic_moves_and_comes_back(self) -> None:
        name = self.name()
        for _ in range(2):
            self.mayfly.deploy(name, MODELS / "iris")
        split = self.mayfly.traffic(name, {1: 95, 2: 5}, sticky_header="X-User")
        self.assertEqual((dict(split.weights), split.sticky_header), ({1: 95, 2: 5}, "X-User"))
        self.assertEqual(self.mayfly.traffic(name).weights, split.weights)
        self.assertEqual(self.mayfly.rollback(name).weights, {2: 100})
        self.assertEqual(self.mayfly.alias(name, "stable", 1, why="known").aliases["stable"], 1)
        self.assertEqual(self.mayfly.call(f"{name}@stable", SETOSA).version, 1)
        self.assertNotIn("stable", self.mayfly.alias(name, "stable", None).aliases)
        error = self.assertFails(mayfly.InvalidRequest, self.mayfly.traffic, name, {1: 50})
        self.assertEqual(error.reason, "invalid_traffic")
        listed = self.mayfly.versions(name)
        self.assertEqual([(v.version, v.current) for v in listed], [(1, False), (2, True)])

    def test_a_function_is_listed_configured_and_deleted(self) -> None:
        name = self.name()
        self.mayfly.deploy(name, MODELS / "iris")
        (listed,) = [f for f in self.mayfly.functions() if f.name == name]
        self.assertEqual((listed.version, listed.versions), (1, 1))
        age = datetime.datetime.now(datetime.timezone.utc) - listed.created
        self.assertLess(abs(age.total_seconds()), PATIENCE)
        self.assertEqual(self.mayfly.configure(name, idle_timeout="9s")["idle_timeout"], "9s")
        self.assertEqual(self.mayfly.configure(name)["idle_timeout"], "9s")
        described = self.mayfly.describe(name)
        self.assertEqual(str(described.inputs[0]), "sepal_length FP32 [-1]")
        self.mayfly.call(name, SETOSA)
        error = self.assertFails(mayfly.Conflict, self.mayfly.delete, name)
        self.assertEqual(error.reason, "recent_traffic")
        self.mayfly.delete(name, force=True)
        self.assertFails(mayfly.NotFound, self.mayfly.describe, name)

    def test_the_bill_has_every_call(self) -> None:
        name = self.name()
        self.mayfly.deploy(name, MODELS / "iris")
        for _ in range(3):
            self.mayfly.call(name, SETOSA)
        for since in (None, "1h", datetime.timedelta(hours=1), datetime.datetime.now()):
            usage = self.mayfly.usage(since, function=name)
            self.assertEqual([row.requests for row in usage.rows], [3])
        self.assertEqual(sum(row.price for row in usage.rows), usage.total)
        self.assertIsInstance(usage.rows[0].gb_seconds, Decimal)

    def test_a_deadline_is_told_to_the_node(self) -> None:
        name = self.name()
        self.mayfly.deploy(name, MODELS / "slow")
        spec = self.mayfly.describe(name).inputs[0]
        example = json.loads((MODELS / "slow" / "example.json").read_text())["inputs"][0]
        value = np.array(example["data"]).reshape(example["shape"])
        self.mayfly.call(name, {spec.name: value})
        error = self.assertFails(
            mayfly.DeadlineExceeded, self.mayfly.call, name, {spec.name: value}, timeout=0.001
        )
        self.assertEqual(error.status, 504)

    def test_an_instance_that_dies_is_an_error_of_this_call_alone(self) -> None:
        name = self.name()
        self.mayfly.deploy(name, MODELS / "memory_hog", options={"memory": "64MiB"})
        error = self.assertFails(
            mayfly.ExecutionFailed, self.mayfly.call, name, 1000, text="memory"
        )
        self.assertEqual((error.status, error.reason), (500, "out_of_memory"))
        self.assertRegex(error.invocation, "^[0-9a-f-]{36}$")
        self.assertEqual(self.mayfly.call(name, 1)["one"], 1)


class LifeTest(LifeCases, SdkCase):
    pass


class AsyncLifeTest(LifeCases, SdkCase):
    asynchronous = True


class KeyTest(SdkCase):
    functions = {"iris": "iris"}

    def test_a_node_with_keys_wants_one_and_a_key_does_what_its_scope_says(self) -> None:
        data = ("--data", str(self.node.data))
        made = self.node.cli_json("key", "create", "--scope", "invoke:iris", *data)
        error = self.assertFails(mayfly.Unauthenticated, self.mayfly.functions)
        self.assertEqual(error.status, 401)
        self.assertIn("MAYFLY_KEY", str(error))
        self.assertFails(mayfly.Unauthenticated, self.mayfly.deploy, "g", MODELS / "iris")
        for asynchronous in (False, True):
            self.asynchronous = asynchronous
            with mock.patch.dict(os.environ, {"MAYFLY_KEY": made["key"]}):
                client = self.client(self.node.url)
            # The scope to invoke is enough: the signature is looked up with it.
            self.assertEqual(client.call("iris", SETOSA)["label"].tolist(), ["setosa"])
            error = self.assertFails(
                mayfly.PermissionDenied, client.deploy, "iris", MODELS / "iris"
            )
            self.assertEqual(error.status, 403)
            self.assertFails(mayfly.PermissionDenied, client.usage, text="read")


class TlsNode(Node):
    """A node that speaks HTTPS, and asks a client for its certificate."""

    scheme = "https"

    def __init__(self, server: Authority, clients: Authority) -> None:
        certificate, key = server.issue("node")
        shown = clients.issue("client")
        self.trust = ssl.create_default_context(cafile=str(server.file))
        self.trust.load_cert_chain(*shown)
        self.shown = [str(file) for file in shown]
        self.environment = {
            "MAYFLY_CA": str(server.file),
            "MAYFLY_CLIENT_CERT": self.shown[0],
            "MAYFLY_CLIENT_KEY": self.shown[1],
        }
        files = [
            "--tls-certificate",
            certificate,
            "--tls-key",
            key,
            "--tls-client-ca",
            clients.file,
        ]
        super().__init__(*map(str, files))

    def connect(self):
        import http.client

        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, context=self.trust
        )


class TlsTest(sdk_case.BothClients, unittest.TestCase):
    def test_a_node_is_trusted_by_its_authority_alone(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mayfly-sdk-tls-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        server, clients = Authority(folder, "server"), Authority(folder, "clients")
        node = TlsNode(server, clients)
        self.addCleanup(node.close)
        node.deploy("iris", "iris")
        for self.asynchronous in (False, True):
            with self.subTest(asynchronous=self.asynchronous):
                with mock.patch.dict(os.environ, node.environment):
                    client = self.client(node.url)
                self.assertEqual(client.call("iris", SETOSA)["label"].tolist(), ["setosa"])
                stranger = self.client(node.url, retries=0)
                self.assertFails(mayfly.ConnectionFailed, stranger.functions, text="not trusted")
                nobody = self.client(node.url, ca=str(server.file), retries=0)
                self.assertFails(mayfly.ConnectionFailed, nobody.functions)
                plain = self.client(node.url.replace("https", "http"), retries=0)
                self.assertFails(mayfly.MayflyError, plain.functions)
        self.assertFails(
            mayfly.InvalidArgument, mayfly.Client, node.url, ca="/absent.pem", text="/absent.pem"
        )


class FollowTest(SdkCase):
    functions = {"iris": "iris"}

    def test_following_a_function_that_is_not_there_fails(self) -> None:
        self.assertFails(mayfly.NotFound, next, mayfly.Client(self.node.url).follow("absent"))

        async def follow() -> None:
            async with mayfly.AsyncClient(self.node.url) as client:
                async for _ in client.follow("absent"):
                    pass

        with self.assertRaises(mayfly.NotFound):
            asyncio.run(follow())


if __name__ == "__main__":
    unittest.main()
