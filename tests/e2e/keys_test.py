"""Keys: the first one over the admin socket, scopes, ends, revocation, restarts, the audit log."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import socket
import stat
import subprocess
import time

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from case import NodeCase
from node import BIN, MODELS, Node, Reply, wait_until


class KeyedCase(NodeCase):
    """A node on which keys are made per test; `ask` speaks HTTP with one."""

    def make(self, scopes: str, *arguments: str) -> dict:
        return self.node.cli_json(
            "key", "create", "--scope", scopes, "--data", str(self.node.data), *arguments
        )

    def ask(self, method: str, path: str, key: str | None = None, body=None) -> Reply:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        content = None if body is None else json.dumps(body).encode()
        return self.node.request(method, path, content, headers)

    def predict(self, name: str, key: str | None = None) -> Reply:
        example = json.loads((MODELS / "iris" / "example.json").read_text())
        return self.ask("POST", f"/v2/models/{name}/infer", key, example)

    def cli_with(self, key: str, *arguments: str, check: bool = True):
        self.node.environment = {"MAYFLY_KEY": key}
        try:
            return self.node.cli(*arguments, check=check)
        finally:
            self.node.environment = {}

    def deploy_with(self, key: str, name: str, model: str = "iris") -> None:
        self.cli_with(key, "deploy", name, str(MODELS / model))

    def audit(self, **query) -> list[dict]:
        flags = [text for flag, value in query.items() for text in (f"--{flag}", value)]
        return self.node.cli_json("audit", "--data", str(self.node.data), *flags)["entries"]


def over_socket(path: str, method: str, target: str, body: bytes = b"") -> bytes:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(path)
        line.sendall(
            f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        reply = b""
        while piece := line.recv(65536):
            reply += piece
        return reply


class FirstKeyTest(KeyedCase):
    def test_nobody_needs_a_key_until_there_is_one_and_then_everybody(self) -> None:
        self.node.deploy("f", "iris")
        self.assertEqual(self.ask("GET", "/api/v1/functions").status, 200)
        refused = self.ask("POST", "/api/v1/keys", body={"scopes": "admin"})
        self.assertRefused(refused, 403, "missing_scope", "admin socket")

        made = self.make("invoke:f", "--name", "app")
        key = made["key"]
        self.assertTrue(key.startswith(f"mayfly_{made['id']}_"))
        for method, path in (
            ("GET", "/api/v1/functions"),
            ("GET", "/v2"),
            ("GET", "/v2/models/f"),
            ("GET", "/metrics"),
            ("POST", "/v2/models/f/infer"),
            ("POST", "/functions/f"),
            ("POST", "/v1/models/f:predict"),
            ("GET", "/nothing"),
        ):
            with self.subTest(path):
                reply = self.ask(method, path)
                self.assertRefused(reply, 401, "unauthenticated")
                self.assertIn("Bearer", reply.headers["WWW-Authenticate"])
        for health in ("/v2/health/live", "/v2/health/ready"):
            self.assertEqual(self.ask("GET", health).status, 200)

        self.assertServed(self.predict("f", key))
        self.assertRefused(self.predict("g", key), 403, "missing_scope", "invoke:g")
        self.assertRefused(self.ask("GET", "/api/v1/functions", key), 403, "missing_scope", "read")
        self.assertRefused(self.ask("GET", "/metrics", key), 403, "missing_scope", "metrics")
        self.assertEqual(self.ask("GET", "/v2/models/f", key).status, 200)
        for bad in (key[:-1], key + "A", key.replace("mayfly_", "mayfly-"), "x", "Bearer " + key):
            self.assertRefused(self.ask("GET", "/v2/models/f", bad), 401, "unauthenticated")

        # Nothing of the secret lies in the data folder.
        secret = key.rsplit("_", 1)[-1].encode()[-20:]
        for file in self.node.data.rglob("*"):
            if file.is_file():
                self.assertNotIn(secret, file.read_bytes(), file)
        mode = stat.S_IMODE(os.stat(self.node.data / "identity.secret").st_mode)
        self.assertEqual(mode, 0o600)


class OpenStreamTest(KeyedCase):
    """What began before a key ended, or before there was one, does not go on after."""

    functions = {"f": "iris"}

    def example(self) -> pb.ModelInferRequest:
        request = pb.ModelInferRequest(model_name="f")
        for tensor in json.loads((MODELS / "iris" / "example.json").read_text())["inputs"]:
            sent = request.inputs.add(
                name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"]
            )
            sent.contents.fp32_contents.extend(tensor["data"])
        return request

    def ends(self, call) -> grpc.StatusCode:
        with self.assertRaises(grpc.RpcError) as caught:
            for _ in call:
                pass
        return caught.exception.code()

    def follow(self, key: str | None) -> http.client.HTTPResponse:
        line = self.node.connect()
        self.addCleanup(line.close)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        line.request("GET", "/api/v1/functions/f/logs?follow=true", headers=headers)
        return line.getresponse()

    def check_ends(self, key: str | None, end) -> None:
        metadata = None if key is None else (("authorization", f"Bearer {key}"),)
        with grpc.insecure_channel(self.node.grpc) as channel:
            stub = rpc.GRPCInferenceServiceStub(channel)
            messages: queue.Queue = queue.Queue()
            answers = stub.ModelStreamInfer(iter(messages.get, None), metadata=metadata)
            messages.put(self.example())
            self.assertEqual(next(answers).error_message, "")
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            watching = watch(b"\x0a\x01f", metadata=metadata)  # of the function f
            self.assertEqual(next(watching), b"\x08\x01")
            of_node = watch(b"", metadata=metadata)
            self.assertEqual(next(of_node), b"\x08\x01")
            logs = self.follow(key)
            self.assertEqual(logs.status, 200)
            end()
            messages.put(self.example())
            self.assertEqual(self.ends(answers), grpc.StatusCode.UNAUTHENTICATED)
            self.assertEqual(self.ends(watching), grpc.StatusCode.UNAUTHENTICATED)
            self.assertTrue(of_node.is_active())
            of_node.cancel()
            logs.read()  # ends: with the next line or heartbeat
            messages.put(None)

    def test_a_stream_that_nobody_began_ends_with_the_first_key(self) -> None:
        self.check_ends(None, lambda: self.make("read:*"))
        made = self.make("invoke:*,read:*")
        self.check_ends(
            made["key"],
            lambda: self.node.cli("key", "revoke", made["id"], "--data", str(self.node.data)),
        )


class AdminSocketTest(KeyedCase):
    def test_the_admin_socket_is_for_its_owner_and_for_keys_only(self) -> None:
        path = str(self.node.data / "run" / "admin.sock")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.make("read:*")
        self.assertIn(b" 200 ", over_socket(path, "GET", "/api/v1/keys").split(b"\r\n")[0])
        self.assertIn(b" 403 ", over_socket(path, "GET", "/api/v1/functions").split(b"\r\n")[0])
        if os.geteuid() != 0:
            self.skipTest("another user's connection needs root")
        os.chmod(path, 0o666)
        for folder in (self.node.data, self.node.data / "run"):
            os.chmod(folder, 0o755)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setuid(65534)
                status = 0 if over_socket(path, "GET", "/api/v1/keys") == b"" else 2
            except OSError:
                status = 0
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        for folder in (self.node.data, self.node.data / "run"):
            os.chmod(folder, 0o700)


class LongPathTest(NodeCase):
    def test_the_first_key_is_made_in_a_data_folder_however_long_its_path_is(self) -> None:
        data = self.folder / ("d" * 150)
        with contextlib.closing(Node(data=data)) as node:
            made = node.cli_json("key", "create", "--scope", "admin", "--data", str(data))
            self.assertTrue(made["key"].startswith("mayfly_"))


class KeyLifeTest(KeyedCase):
    def setUp(self) -> None:
        self.reader = self.make("read:*", "--name", "reader")

    def reads(self, key: str) -> int:
        return self.ask("GET", "/api/v1/functions", key).status

    def test_a_revoked_key_ends_with_the_next_request(self) -> None:
        made = self.make("read:*")
        with contextlib.closing(self.node.connect()) as line:  # the connection stays: what counts is the request
            headers = {"Authorization": f"Bearer {made['key']}"}
            line.request("GET", "/api/v1/functions", headers=headers)
            reply = line.getresponse()
            reply.read()
            self.assertEqual(reply.status, 200)
            self.node.cli("key", "revoke", made["id"], "--data", str(self.node.data))
            line.request("GET", "/api/v1/functions", headers=headers)
            self.assertEqual(line.getresponse().status, 401)
        again = self.node.cli(
            "key", "revoke", made["id"], "--data", str(self.node.data), check=False
        )
        self.assertEqual(again.returncode, 3)

    def test_a_key_expires(self) -> None:
        made = self.make("read:*", "--expires", "2s")
        self.assertEqual(self.reads(made["key"]), 200)
        wait_until(lambda: self.reads(made["key"]) == 401, "the key expires")
        for bad in ("soon", "0d", "-1d", "2001-01-01T00:00:00Z", "2562047h", "99999999d"):
            refused = self.node.cli(
                "key", "create", "--scope", "read", f"--expires={bad}",
                "--data", str(self.node.data), check=False,
            )  # fmt: skip
            self.assertEqual(refused.returncode, 2, refused.stderr)

    def test_a_key_shows_when_it_was_used_last(self) -> None:
        made = self.make("read:*")

        def last_used():
            keys = self.node.cli_json("key", "list", "--data", str(self.node.data))["keys"]
            return next(key["last_used"] for key in keys if key["id"] == made["id"])

        self.assertIsNone(last_used())
        self.reads(made["key"])
        wait_until(last_used, "the use is written down")

    def test_an_admin_key_makes_keys_over_http_and_others_do_not(self) -> None:
        admin = self.make("admin")
        made = self.ask("POST", "/api/v1/keys", admin["key"], {"scopes": "read:*"})
        self.assertEqual(made.status, 201)
        self.assertEqual(made.headers["Cache-Control"], "no-store")
        self.assertEqual(self.reads(made.json()["key"]), 200)
        listed = self.ask("GET", "/api/v1/keys", admin["key"]).json()["keys"]
        self.assertTrue(all("key" not in row for row in listed))
        self.assertRefused(
            self.ask("POST", "/api/v1/keys", self.reader["key"], {"scopes": "read:*"}),
            403,
            "missing_scope",
            "admin",
        )

    def test_the_command_line_takes_a_key_from_a_file(self) -> None:
        file = self.folder / "key"
        file.write_text(self.reader["key"] + "\n")
        self.node.cli("--key-file", str(file), "functions")
        self.assertEqual(self.node.cli("functions", check=False).returncode, 5)
        missing = self.node.cli("--key-file", str(self.folder / "none"), "functions", check=False)
        self.assertIn(b"none", missing.stderr)

    def test_a_node_that_is_named_is_not_mistaken_for_the_one_in_the_data_folder(self) -> None:
        victim = self.make("read:*")
        self.node.environment = {"MAYFLY_DATA": str(self.node.data)}
        try:
            for flags in (("--url", self.node.url), ()):  # the second is named by MAYFLY_URL
                refused = self.node.cli(*flags, "key", "revoke", victim["id"], check=False)
                self.assertEqual(refused.returncode, 5, refused.stderr)
                self.assertIn(b"this node has keys", refused.stderr)
            self.assertEqual(self.reads(victim["key"]), 200)
            self.node.environment["MAYFLY_URL"] = ""
            self.node.cli("key", "revoke", victim["id"])
            self.assertEqual(self.reads(victim["key"]), 401)
        finally:
            self.node.environment = {}

    def test_grpc_asks_for_the_same_keys(self) -> None:
        key = self.make("read:*,deploy:*,invoke:f")
        self.deploy_with(key["key"], "f")
        with grpc.insecure_channel(self.node.grpc) as channel:
            stub = rpc.GRPCInferenceServiceStub(channel)
            bearer = (("authorization", f"Bearer {key['key']}"),)

            def code_of(call) -> grpc.StatusCode:
                try:
                    call()
                except grpc.RpcError as error:
                    return error.code()
                return grpc.StatusCode.OK

            metadata = pb.ModelMetadataRequest(name="f")
            self.assertEqual(stub.ModelMetadata(metadata, metadata=bearer).name, "f")
            self.assertTrue(stub.ServerLive(pb.ServerLiveRequest()).live)
            for call in (stub.ModelMetadata, stub.ModelReady, stub.ModelConfig):
                self.assertEqual(
                    code_of(lambda call=call: call(metadata)), grpc.StatusCode.UNAUTHENTICATED
                )
            infer = pb.ModelInferRequest(model_name="f")
            self.assertEqual(code_of(lambda: stub.ModelInfer(infer)), grpc.StatusCode.UNAUTHENTICATED)
            self.assertEqual(
                code_of(lambda: stub.ModelInfer(infer, metadata=bearer)),
                grpc.StatusCode.INVALID_ARGUMENT,
            )
            other = pb.ModelInferRequest(model_name="g")
            self.assertEqual(
                code_of(lambda: stub.ModelInfer(other, metadata=bearer)),
                grpc.StatusCode.PERMISSION_DENIED,
            )
            stub.RepositoryModelUnload(
                pb.RepositoryModelUnloadRequest(model_name="f"), metadata=bearer
            )
        entry = self.audit(action="unload")[0]
        self.assertEqual((entry["outcome"], entry["subject"]), ("ok", "f"))
        self.assertEqual(entry["from"], "127.0.0.1")

    def test_every_method_of_grpc_but_health_asks_for_a_key_and_a_scope(self) -> None:
        useless = self.make("metrics")["key"]
        methods = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
        self.assertGreater(len(methods), 15)
        with grpc.insecure_channel(self.node.grpc) as channel:
            for method in methods:
                path = f"/inference.GRPCInferenceService/{method.name}"
                for metadata, expected in (
                    (None, grpc.StatusCode.UNAUTHENTICATED),
                    (
                        (("authorization", f"Bearer {useless}"),),
                        grpc.StatusCode.PERMISSION_DENIED,
                    ),
                ):
                    with self.subTest(method.name, expected=expected):
                        call = channel.stream_stream(path)(
                            iter([b""]), metadata=metadata, timeout=60
                        )
                        if method.name in ("ServerLive", "ServerReady"):
                            self.assertEqual(len(list(call)), 1)
                            continue
                        with self.assertRaises(grpc.RpcError) as refused:
                            list(call)
                        self.assertEqual(refused.exception.code(), expected)
        refused = {(e["action"], e["who"] == "", e["outcome"]) for e in self.audit()}
        for action in ("load", "unload"):
            self.assertIn((action, True, "unauthenticated"), refused)
            self.assertIn((action, False, "missing_scope"), refused)


class DurableTest(KeyedCase):
    def test_keys_and_audit_log_survive_kill_9_and_restart(self) -> None:
        kept = self.make("read:*", "--name", "kept")
        gone = self.make("read:*")
        self.node.cli("key", "revoke", gone["id"], "--data", str(self.node.data))
        before = self.audit()
        for how in (self.node.kill, self.node.stop):
            how()
            self.node.start()
            self.assertEqual(self.ask("GET", "/api/v1/functions", kept["key"]).status, 200)
            self.assertEqual(self.ask("GET", "/api/v1/functions", gone["key"]).status, 401)
            self.assertEqual(self.ask("GET", "/api/v1/functions").status, 401)
            self.assertEqual(self.audit()[-len(before) :], before)

    def test_revoking_the_last_key_does_not_open_the_node(self) -> None:
        for key in self.node.cli_json("key", "list", "--data", str(self.node.data))["keys"]:
            if key["revoked"] is None:
                self.node.cli("key", "revoke", key["id"], "--data", str(self.node.data))
        self.make_and_revoke()
        self.assertEqual(self.ask("GET", "/api/v1/functions").status, 401)
        self.node.stop()
        self.node.start()
        self.assertEqual(self.ask("GET", "/api/v1/functions").status, 401)

    def make_and_revoke(self) -> None:
        made = self.make("admin")
        self.node.cli("key", "revoke", made["id"], "--data", str(self.node.data))


class ReachableTest(KeyedCase):
    def test_a_node_is_reachable_from_elsewhere_only_with_keys(self) -> None:
        def serve() -> subprocess.Popen:
            return subprocess.Popen(
                [str(BIN / "mayfly"), "serve", "--listen", "0.0.0.0:0", "--grpc-listen", "off",
                 "--data", str(self.node.data)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip

        self.node.stop()
        with serve() as refused:
            self.assertIn(b"no keys", refused.communicate(timeout=60)[1])
            self.assertNotEqual(refused.returncode, 0)
        self.node.start()
        key = self.make("read:*")["key"]
        self.node.stop()
        url = self.node.data / "run" / "url"
        url.unlink(missing_ok=True)
        with serve() as open_node:
            wait_until(url.exists, "the node listens")
            port = int(url.read_text().rsplit(":", 1)[1])
            for headers, status in (({}, 401), ({"Authorization": f"Bearer {key}"}, 200)):
                line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                line.request("GET", "/api/v1/functions", headers={"Host": "elsewhere"} | headers)
                self.assertEqual(line.getresponse().status, status)
                line.close()
            open_node.terminate()
            self.assertIn(b"travel in clear", open_node.communicate(timeout=60)[1])
        self.node.start()


class AuditTest(KeyedCase):
    def test_every_control_action_stands_in_the_audit_log_also_refused_ones(self) -> None:
        started = time.time()
        admin = self.make("deploy:*,configure:*,read:*,admin", "--name", "ann")
        key = admin["key"]
        weak = self.make("read:*", "--name", "bob")
        self.deploy_with(key, "f")
        self.cli_with(key, "configure", "f", "idle_timeout=10s")
        self.cli_with(key, "alias", "f", "stable=1")
        self.cli_with(key, "evict", "f")
        self.ask("PATCH", "/api/v1/functions/f/settings", weak["key"], {"idle_timeout": "1s"})
        self.ask("DELETE", "/api/v1/functions/f")
        self.ask("POST", "/api/v1/functions/f/rollback", key)
        self.cli_with(key, "gc")
        self.cli_with(key, "delete", "f", "--yes")

        who = f"ann (key:{admin['id']})"
        seen = [(e["who"], e["action"], e["subject"], e["outcome"]) for e in self.audit()]
        for expected in (
            ("socket", "key.create", admin["id"], "ok"),
            (who, "deploy", "f", "ok"),
            (who, "configure", "f", "ok"),
            (who, "alias", "f", "ok"),
            (who, "evict", "f", "ok"),
            (f"bob (key:{weak['id']})", "configure", "f", "missing_scope"),
            ("", "delete", "f", "unauthenticated"),
            (who, "gc", "", "ok"),
            (who, "delete", "f", "ok"),
        ):
            self.assertIn(expected, seen)
        self.assertTrue(any(e[1] == "rollback" and e[3] != "ok" for e in seen), seen)
        self.assertEqual([e["action"] for e in self.audit(who=who, limit="1")], ["delete"])
        self.assertEqual({e["subject"] for e in self.audit(subject="f")}, {"f"})
        for entry in self.audit():
            self.assertIn(entry["from"], ("unix", "127.0.0.1"))
            self.assertGreaterEqual(entry["time"], time.strftime("%Y-%m-%d", time.gmtime(started)))
        history = json.loads(
            self.cli_with(key, "history", "f", "--json").stdout
        )["history"]  # fmt: skip
        self.assertIn(who, {line["who"] for line in history})

    def test_what_a_stranger_writes_into_a_path_is_kept_printable_and_as_it_was_sent(self) -> None:
        weak = self.make("read:*")
        self.ask("DELETE", "/api/v1/functions/%1b]0;x%07", weak["key"])
        self.ask("DELETE", "/api/v1/functions/shop%2Ffraud", weak["key"])
        subjects = [entry["subject"] for entry in self.audit(action="delete")]
        self.assertIn("?]0;x?", subjects)
        self.assertIn("shop/fraud", subjects)

    def test_keys_of_another_project_stand_in_its_audit_log(self) -> None:
        made = self.make("read:*", "--project", "shop")
        self.node.cli("key", "revoke", made["id"], "--data", str(self.node.data))
        found = [(e["action"], e["subject"], e["who"]) for e in self.audit(project="shop")]
        for action in ("key.create", "key.revoke"):
            self.assertIn((action, made["id"], "socket"), found)

    def test_a_deploy_is_in_the_audit_log_when_its_last_line_is_read(self) -> None:
        key = self.make("deploy:*,admin", "--name", "sue")["key"]
        self.deploy_with(key, "early")
        listed = self.ask("GET", "/api/v1/audit?action=deploy&subject=early", key).json()
        self.assertEqual([entry["outcome"] for entry in listed["entries"]], ["ok"])

    def test_refusals_without_end_are_counted_instead_of_kept(self) -> None:
        weak = self.make("invoke:*", "--name", "loop")
        for _ in range(60):
            refused = self.ask("POST", "/api/v1/functions/f/rollback", weak["key"])
            self.assertEqual(refused.status, 403)
        who = f"loop (key:{weak['id']})"
        kept = len(self.audit(who=who, action="rollback"))
        self.assertLess(kept, 60)

        def counted() -> int:
            return sum(int(entry["subject"]) for entry in self.audit(who=who, action="refusals"))

        wait_until(lambda: counted() == 60 - kept, "the others are counted")
