"""System shared memory: the official clients lay tensors into segments, and the server copies them."""

from __future__ import annotations

import os

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from case import NodeCase

KEY = "/mayfly.default.tensors"
SIZE = 64


class SharedMemoryTest(NodeCase):
    functions = {"adder": "adder"}
    arguments = ("--client-shm-uid", str(os.geteuid()))

    def setUp(self) -> None:
        self.segment = shm.create_shared_memory_region("mine", KEY, SIZE)
        self.addCleanup(shm.destroy_shared_memory_region, self.segment)
        self.http = tritonclient.http.InferenceServerClient(self.node.url.removeprefix("http://"))
        self.addCleanup(self.http.close)
        self.grpc = tritonclient.grpc.InferenceServerClient(self.node.grpc)
        self.addCleanup(self.grpc.close)
        self.addCleanup(self.http.unregister_system_shared_memory)

    def test_the_official_clients_predict_through_shared_memory(self) -> None:
        for library, client in ((tritonclient.http, self.http), (tritonclient.grpc, self.grpc)):
            with self.subTest(library.__name__):
                client.register_system_shared_memory("in", KEY, 32)
                client.register_system_shared_memory("out", KEY, 32, offset=32)
                a, b = np.array([1, 2], np.float32), np.array([10, 20], np.float32)
                shm.set_shared_memory_region(self.segment, [a, b])
                inputs = self.inputs(library)
                for i, one in enumerate(inputs):
                    one.set_shared_memory("in", 8, offset=8 * i)
                sum_name = self.outputs()[0]
                wanted = library.InferRequestedOutput(sum_name)
                wanted.set_shared_memory("out", 8)
                result = client.infer("adder", inputs, outputs=[wanted])
                self.assertIsNotNone(result.get_output(sum_name))  # it says where its bytes are
                laid = shm.get_contents_as_numpy(self.segment, np.float32, [2], offset=32)
                np.testing.assert_array_equal(laid, a + b)
                # One input sent, the other shared; the output sent.
                inputs[1] = self.inputs(library)[1]
                inputs[1].set_data_from_numpy(b)
                mixed = client.infer("adder", inputs)
                np.testing.assert_array_equal(mixed.as_numpy(sum_name), a + b)
                names = self.names(client)
                self.assertEqual(names, {"in", "out"})
                client.unregister_system_shared_memory("in")
                client.unregister_system_shared_memory()
                self.assertEqual(self.names(client), set())

    def names(self, client) -> set[str]:
        status = client.get_system_shared_memory_status()
        return {one["name"] for one in status} if isinstance(status, list) else set(status.regions)

    def metadata(self) -> dict:
        return self.node.request("GET", "/v2/models/adder").json()

    def outputs(self) -> list[str]:
        return [one["name"] for one in self.metadata()["outputs"]]

    def inputs(self, library) -> list:
        return [library.InferInput(one["name"], [2], one["datatype"]) for one in self.metadata()["inputs"]]

    def refused(self, call, text: str) -> None:
        with self.assertRaises(InferenceServerException) as refusal:
            call()
        self.assertIn(text, str(refusal.exception))

    def test_the_server_names_the_extension(self) -> None:
        self.assertIn("system_shared_memory", self.http.get_server_metadata()["extensions"])
        self.assertIn("system_shared_memory", self.grpc.get_server_metadata().extensions)

    def test_what_a_region_does_not_have_is_refused(self) -> None:
        for client in (self.http, self.grpc):
            register = client.register_system_shared_memory
            self.refused(lambda: register("r", "/mayfly.other.tensors", 8), "no segment of this project")
            self.refused(lambda: register("r", "/mayfly.default.absent", 8), "cannot be opened")
            self.refused(lambda: register("r", KEY, SIZE + 1), "do not lie within")
            self.refused(lambda: register("r", KEY, 8, offset=2**63), "do not lie within")
            register("r", KEY, 16)
            self.refused(lambda: register("r", KEY, 16), "registered already")
            library = tritonclient.http if client is self.http else tritonclient.grpc
            for region, size, offset, text in (
                ("absent", 8, 0, "no shared-memory region 'absent'"),
                ("r", 8, 9, "do not lie within"),
                ("r", 4, 0, "needs 8"),
            ):
                inputs = self.inputs(library)
                for one in inputs:
                    one.set_shared_memory(region, size, offset=offset)
                self.refused(lambda inputs=inputs: client.infer("adder", inputs), text)
            inputs = self.inputs(library)
            for one in inputs:
                one.set_shared_memory("r", 8)
            small = library.InferRequestedOutput(self.outputs()[0])
            small.set_shared_memory("r", 4)
            self.refused(lambda inputs=inputs, small=small: client.infer("adder", inputs, outputs=[small]), "has 8 bytes")
            lost = library.InferRequestedOutput(self.outputs()[0])
            lost.set_shared_memory("absent", 8)
            self.refused(
                lambda inputs=inputs, lost=lost: client.infer("adder", inputs, outputs=[lost]),
                f"output '{self.outputs()[0]}': no shared-memory region",
            )
            client.unregister_system_shared_memory("r")

    def test_a_segment_that_is_made_shorter_spoils_its_own_request_only(self) -> None:
        self.http.register_system_shared_memory("r", KEY, SIZE)
        os.truncate("/dev/shm" + KEY, 4)
        inputs = self.inputs(tritonclient.http)
        for one in inputs:
            one.set_shared_memory("r", 8)
        self.refused(lambda: self.http.infer("adder", inputs), "made shorter")
        os.truncate("/dev/shm" + KEY, SIZE)
        self.http.infer("adder", inputs)


class NoSharedMemoryTest(NodeCase):
    def test_it_is_off_unless_a_user_is_named(self) -> None:
        for method, path in (("GET", "status"), ("POST", "region/r/register"), ("POST", "unregister")):
            body = b'{"key": "/mayfly.default.x", "byte_size": 8}'
            reply = self.node.request(method, f"/v2/systemsharedmemory/{path}", body)
            self.assertRefused(reply, 501, "unsupported", "client_shm.uid")
        self.assertNotIn("system_shared_memory", self.node.request("GET", "/v2").json()["extensions"])
