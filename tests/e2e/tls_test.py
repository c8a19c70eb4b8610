"""HTTPS: who trusts the node is served, who does not says so; certificates are renewed without a restart."""

from __future__ import annotations

import datetime
import http.client
import json
import shutil
import signal
import socket
import ssl
import tempfile
import threading
import unittest
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
import tritonclient.utils as triton_utils
from certificates import Authority, serial_of
from node import MODELS, PATIENCE, Node, wait_until
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc
from tritonclient.utils import triton_to_np_dtype


class TlsNode(Node):
    """A node that speaks HTTPS, and a client that trusts `authority`."""

    scheme = "https"

    def __init__(self, authority: Authority, certificate: Path, key: Path, *arguments: str, **rest):
        self.trust = ssl.create_default_context(cafile=authority.file)
        self.environment = {"MAYFLY_CA": str(authority.file)} | rest.pop("environment", {})
        if client := rest.pop("client", None):
            self.trust.load_cert_chain(*client)
        files = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        super().__init__(*files, *arguments, **rest)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, context=self.trust
        )

    def serial(self) -> int:
        """Of the certificate that a new connection is shown."""
        return serial_of(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", self.port))))

    def grpc_serial(self) -> int:
        """The same of a gRPC connection."""
        trust = ssl._create_unverified_context()
        trust.set_alpn_protocols(["h2"])
        host, port = self.grpc.split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as plain:
            with trust.wrap_socket(plain) as shown:
                return serial_of(shown.getpeercert(binary_form=True))


class TlsCase(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mayfly-e2e-tls-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.authority = Authority(self.folder, "authority")

    def start(self, certificate: Path, key: Path, *arguments: str, **rest) -> TlsNode:
        node = TlsNode(self.authority, certificate, key, *arguments, **rest)
        self.addCleanup(node.close)
        return node

    def channel_credentials(self, shown: tuple[Path, Path]) -> grpc.ChannelCredentials:
        certificate, key = (file.read_bytes() for file in shown)
        return grpc.ssl_channel_credentials(self.authority.file.read_bytes(), key, certificate)


class CallerCertificateTest(TlsCase):
    def test_a_certificate_stands_for_its_caller_unless_a_key_is_sent(self) -> None:
        clients = Authority(self.folder, "clients")
        mapping = self.folder / "certificates.json"
        mapping.write_text(
            json.dumps(
                {
                    "certificates": [
                        {"subject": "DNS:reader.example", "project": "team", "scopes": "read:*"},
                        {"subject": "CN:nobody", "project": "team", "scopes": "admin"},
                    ]
                }
            )
        )
        reader = clients.issue("reader", names=("reader.example",), common_name="reader")
        node = self.start(
            *self.authority.issue("server"),
            "--tls-client-ca", str(clients.file), "--certificates", str(mapping),
            client=reader,
        )  # fmt: skip

        def status(path: str, *headers: tuple[str, str]) -> int:
            return node.request("GET", path, headers=dict(headers)).status

        self.assertEqual(status("/api/v1/functions"), 200)
        self.assertEqual(status("/api/v1/keys"), 403)
        key = node.cli_json(
            "key", "create", "--scope", "admin", "--project", "team", "--data", str(node.data)
        )["key"]
        self.assertEqual(status("/api/v1/keys", ("Authorization", f"Bearer {key}")), 200)
        self.assertEqual(status("/api/v1/functions", ("Authorization", f"Bearer {key}")), 403)
        self.assertEqual(status("/api/v1/functions", ("Authorization", "Bearer x")), 401)
        node.request("DELETE", "/api/v1/functions/f")
        entry = node.cli_json("audit", "--data", str(node.data))["entries"][0]
        self.assertEqual(entry["who"], "DNS:reader.example (certificate)")
        self.assertEqual(entry["project"], "team")

        def code(shown: tuple[Path, Path], **metadata) -> grpc.StatusCode:
            """Of gRPC's answer to a question that a reader may ask."""
            with grpc.secure_channel(node.grpc, self.channel_credentials(shown)) as channel:
                ask = rpc.GRPCInferenceServiceStub(channel).RepositoryIndex
                try:
                    ask(pb.RepositoryIndexRequest(), timeout=PATIENCE, **metadata)
                except grpc.RpcError as error:
                    return error.code()
                return grpc.StatusCode.OK

        self.assertEqual(code(reader), grpc.StatusCode.OK)
        bearer = (("authorization", f"Bearer {key}"),)
        self.assertEqual(code(reader, metadata=bearer), grpc.StatusCode.PERMISSION_DENIED)
        other = clients.issue("other", names=("other.example",))
        self.assertEqual(code(other), grpc.StatusCode.UNAUTHENTICATED)
        foreign = self.authority.issue("foreign", names=("reader.example",))
        self.assertEqual(code(foreign), grpc.StatusCode.UNAVAILABLE)

        node.trust.load_cert_chain(*other)
        self.assertEqual(status("/api/v1/functions"), 401)
        self.assertEqual(status("/v2/health/live"), 200)

    def test_calls_over_grpc_end_with_the_clients_certificate(self) -> None:
        clients = Authority(self.folder, "clients")
        node = self.start(
            *self.authority.issue("server"),
            "--tls-client-ca", str(clients.file),
            client=clients.issue("steady"),
        )  # fmt: skip
        brief = clients.issue("brief", ends=datetime.timedelta(seconds=4))
        with grpc.secure_channel(node.grpc, self.channel_credentials(brief)) as channel:
            ask = rpc.GRPCInferenceServiceStub(channel).RepositoryIndex

            def ended() -> bool:
                try:
                    ask(pb.RepositoryIndexRequest(), timeout=PATIENCE)
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.UNAUTHENTICATED)
                    self.assertIn("expired", error.details())
                    return True
                return False

            self.assertFalse(ended())
            wait_until(ended, "the open connection is refused")

    def test_a_mapping_without_certificates_to_map_is_refused(self) -> None:
        mapping = self.folder / "certificates.json"
        mapping.write_text('{"certificates": []}')
        with self.assertRaisesRegex(AssertionError, "server.tls_client_ca"):
            self.start(*self.authority.issue("server"), "--certificates", str(mapping))


class HttpsTest(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.start(*self.authority.issue("server"))

    def test_the_official_client_and_the_command_line_work_over_https(self) -> None:
        node = self.node
        self.assertEqual((node.data / "run" / "url").read_text().strip(), node.url)
        node.deploy("adder")
        node.deploy("iris")
        self.assertEqual(node.example("iris").status, 200)
        client = triton.InferenceServerClient(
            f"localhost:{node.port}", ssl=True, ssl_context_factory=lambda: node.trust
        )
        self.addCleanup(client.close)
        self.assertTrue(client.is_server_ready())
        tensors = []
        for spec in client.get_model_metadata("adder")["inputs"]:
            shape = [1 if n < 0 else n for n in spec["shape"]]
            tensors.append(triton.InferInput(spec["name"], shape, spec["datatype"]))
            tensors[-1].set_data_from_numpy(np.ones(shape, triton_to_np_dtype(spec["datatype"])))
        self.assertIsNotNone(client.infer("adder", tensors).get_response())
        done = node.cli("status", "--url", f"https://localhost:{node.port}")
        self.assertEqual(done.returncode, 0)

    def test_the_official_grpc_client_works_over_tls_and_not_without(self) -> None:
        node = self.node
        node.deploy("adder")
        tensors = [triton_grpc.InferInput(name, [4], "FP32") for name in ("a", "b")]
        for tensor in tensors:
            tensor.set_data_from_numpy(np.ones(4, np.float32))
        with triton_grpc.InferenceServerClient(
            node.grpc, ssl=True, root_certificates=str(self.authority.file)
        ) as client:
            self.assertTrue(client.is_server_ready())
            self.assertIsNotNone(client.infer("adder", tensors).get_response())
        with triton_grpc.InferenceServerClient(node.grpc) as client:
            with self.assertRaises(triton_utils.InferenceServerException):
                client.is_server_ready()

    def test_the_command_line_refuses_whom_it_cannot_trust(self) -> None:
        node = self.node
        stranger = Authority(self.folder, "stranger")
        for arguments, said in [
            (("--ca", str(stranger.file)), "unable to get local issuer certificate"),
            (("--ca", "/dev/null"), "/dev/null: no certificate can be read from it"),
        ]:
            done = node.cli("status", *arguments, check=False)
            self.assertIn(done.returncode, (2, 5), done.stderr.decode())
            self.assertIn(said, done.stderr.decode())
        done = node.cli("status", "--url", f"http://127.0.0.1:{node.port}", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("this port speaks HTTPS", done.stderr.decode())
        # The system's store does not know the authority.
        node.environment = {"MAYFLY_CA": ""}
        done = node.cli("status", check=False)
        self.assertEqual(done.returncode, 5, done.stderr.decode())
        self.assertIn("--ca FILE", done.stderr.decode())

    def test_only_http_1_1_and_tls_1_2_or_later(self) -> None:
        def handshake(**settings) -> ssl.SSLSocket:
            context = ssl.create_default_context(cafile=self.authority.file)
            if ciphers := settings.pop("ciphers", None):
                context.set_ciphers(ciphers)
            for name, value in settings.items():
                setattr(context, name, value)
            if protocols := settings.get("protocols"):
                context.set_alpn_protocols(protocols)
            plain = socket.create_connection(("127.0.0.1", self.node.port), timeout=PATIENCE)
            self.addCleanup(plain.close)
            return context.wrap_socket(plain, server_hostname="localhost")

        self.assertEqual(handshake(protocols=["h2", "http/1.1"]).selected_alpn_protocol(), "http/1.1")
        self.assertIn("TLSv1.3", handshake().version())
        self.assertIn("TLSv1.2", handshake(maximum_version=ssl.TLSVersion.TLSv1_2).version())
        with self.assertRaises(ssl.SSLError):
            handshake(protocols=["h2"])
        old = ssl.TLSVersion.TLSv1_1
        with self.assertRaises(ssl.SSLError) as refused:  # by the node, not by this client
            handshake(ciphers="DEFAULT:@SECLEVEL=0", minimum_version=old, maximum_version=old)
        self.assertIn("ALERT", refused.exception.reason)

    def test_new_certificates_under_traffic_cost_no_request(self) -> None:
        node = self.node
        node.deploy("iris")
        first = node.serial()
        stop, failures, served = threading.Event(), [], [0, 0]

        def ask(slot: int, kept: http.client.HTTPSConnection | None) -> None:
            body, path = (MODELS / "iris" / "example.json").read_bytes(), "/v2/models/iris/infer"
            while not stop.is_set():
                connection = kept or node.connect()
                try:
                    connection.request("POST", path, body)
                    reply = connection.getresponse()
                    reply.read()
                    if reply.status != 200:
                        failures.append(reply.status)
                    served[slot] += 1
                except OSError as problem:
                    failures.append(problem)
                finally:
                    if kept is None:
                        connection.close()

        threads = [threading.Thread(target=ask, args=(0, None)) for _ in range(2)]
        threads.append(threading.Thread(target=ask, args=(1, node.connect())))
        for thread in threads:
            thread.start()
        try:
            serial = first
            for _ in range(10):
                self.authority.issue("server")
                node.process.send_signal(signal.SIGHUP)
                before = serial
                wait_until(lambda: node.serial() != before, "a new connection sees the certificate")
                serial = node.serial()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(min(served), 10)

    def test_files_that_change_are_noticed_and_a_broken_pair_changes_nothing(self) -> None:
        node = self.node
        first = node.serial()
        (self.folder / "server.key").write_text("no key")
        wait_until(
            lambda: "cannot be replaced" in node.log.read_text(), "the broken pair is in the log"
        )
        self.assertEqual(node.serial(), first)
        self.assertEqual(node.request("GET", "/v2/health/ready").status, 200)
        self.authority.issue("server")
        wait_until(lambda: node.serial() != first, "the whole pair is noticed without a signal")
        self.assertEqual(node.grpc_serial(), node.serial())
        self.assertEqual(node.log.read_text().count("cannot be replaced"), 1)


class RefusedCertificateTest(TlsCase):
    def test_expired_and_foreign_certificates_are_refused_by_the_command_line(self) -> None:
        hour = datetime.timedelta(hours=1)
        for names, ends, said in [
            (("localhost", "127.0.0.1"), -hour, "certificate has expired"),
            (("elsewhere.example",), hour, "IP address mismatch"),
        ]:
            with self.subTest(said):
                certificate, key = self.authority.issue("server", names=names, ends=ends)
                node = CarelessNode(self.authority, certificate, key)
                try:
                    done = node.cli("status", check=False)
                    self.assertEqual(done.returncode, 5, done.stderr.decode())
                    self.assertIn(said, done.stderr.decode())
                finally:
                    node.close()

    def test_a_pair_that_does_not_fit_stops_the_start(self) -> None:
        certificate, _ = self.authority.issue("server")
        _, key = self.authority.issue("other")
        with self.assertRaisesRegex(AssertionError, "mismatch"):
            TlsNode(self.authority, certificate, key)
        with self.assertRaisesRegex(AssertionError, "belong together"):
            Node("--tls-certificate", str(certificate))


class CarelessNode(TlsNode):
    """Its own requests look at no certificate."""

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, context=ssl._create_unverified_context()
        )


class ClientCertificateTest(TlsCase):
    def test_only_holders_of_a_certificate_are_served(self) -> None:
        clients = Authority(self.folder, "clients")
        alice = clients.issue("alice", names=("alice.example",), common_name="alice")
        mallory = self.authority.issue("mallory", names=("mallory.example",), common_name="alice")
        node = self.start(
            *self.authority.issue("server"),
            *("--tls-client-ca", str(clients.file)),
            client=alice,
            environment={"MAYFLY_CLIENT_CERT": str(alice[0]), "MAYFLY_CLIENT_KEY": str(alice[1])},
        )
        self.assertEqual(node.cli("status").returncode, 0)
        shown = ("--client-cert", str(mallory[0]), "--client-key", str(mallory[1]))
        done = node.cli("status", *shown, check=False)
        self.assertEqual(done.returncode, 5, done.stderr.decode())
        self.assertIn("--client-cert", done.stderr.decode())
        node.environment = {"MAYFLY_CA": str(self.authority.file)}
        done = node.cli("status", check=False)
        self.assertEqual(done.returncode, 5, done.stderr.decode())


class PlainTest(unittest.TestCase):
    def test_sighup_does_not_stop_a_node_without_tls(self) -> None:
        node = Node()
        try:
            node.process.send_signal(signal.SIGHUP)
            for _ in range(3):
                self.assertEqual(node.request("GET", "/v2/health/ready").status, 200)
        finally:
            node.close()
