"""Projects: what one has is, to another, not there; over HTTP, over gRPC, and on the bill."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from keys_test import KeyedCase
from node import MODELS, tensor, wait_until

EVERYTHING = "invoke:*,read:*,deploy:*,configure:*,admin"


class ProjectsTest(KeyedCase):
    """`a` has `shared` and `only_a`, `b` has `shared` of its own, the project default has `plain`."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.node.deploy("plain", "iris")  # before there are keys
        make = cls("run_nothing").make
        cls.a = make(EVERYTHING, "--project", "a", "--name", "ann")["key"]
        cls.b = make(EVERYTHING, "--project", "b", "--name", "bob")["key"]
        cls.own = make(EVERYTHING + ",metrics")["key"]
        for key, name, model in (
            (cls.a, "shared", "iris"),
            (cls.a, "only_a", "iris"),
            (cls.b, "shared", "adder"),
        ):
            cls("run_nothing").deploy_with(key, name, model)

    def run_nothing(self) -> None:
        """What a case needs a name of."""

    def names(self, key: str, path: str = "/api/v1/functions") -> list[str]:
        return sorted(entry["name"] for entry in self.ask("GET", path, key).json()["functions"])

    def test_lists_show_the_own_project_only(self) -> None:
        for key, names in ((self.a, ["only_a", "shared"]), (self.b, ["shared"]), (self.own, ["plain"])):
            self.assertEqual(self.names(key), names)
            index = self.ask("POST", "/v2/repository/index", key, {}).json()
            self.assertEqual(sorted(entry["name"] for entry in index), names)
            status = self.ask("GET", "/api/v1/status", key).json()
            self.assertEqual(status["function_count"], len(names))
            for listed in (status, self.ask("GET", "/api/v1/top", key).json()):
                self.assertLessEqual({entry["name"] for entry in listed["functions"]}, set(names))

    def test_equal_names_are_different_functions(self) -> None:
        for key, platform_inputs in ((self.a, 4), (self.b, None)):
            about = self.ask("GET", "/v2/models/shared", key).json()
            self.assertEqual(about["name"], "shared")
            if platform_inputs:
                self.assertEqual(len(about["inputs"]), platform_inputs)
        self.assertServed(self.predict("shared", self.a))
        self.assertEqual(self.predict("shared", self.a).json()["model_name"], "shared")
        self.assertEqual(self.predict("shared", self.b).status, 400)  # other inputs
        described = self.ask("GET", "/api/v1/functions/shared", self.a).json()
        self.assertEqual(described["name"], "shared")
        self.assertNotIn("a/shared", json.dumps(described))

    def test_equal_files_of_two_projects_meet_in_no_process(self) -> None:
        before = set((self.node.data / "compiled").iterdir())
        for key in (self.a, self.b):
            self.deploy_with(key, "same", "mlp1m")
            example = json.loads((MODELS / "mlp1m" / "example.json").read_text())
            self.assertServed(self.ask("POST", "/v2/models/same/infer", key, example))
        made = set((self.node.data / "compiled").iterdir()) - before
        self.assertEqual(len(made), 2)
        owner = {file.stat().st_ino: folder.name for folder in made for file in folder.rglob("*")}
        held = []
        for pid, _ in self.node.processes():
            inodes = {int(line.split()[4]) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()}
            held.append({owner[inode] for inode in inodes & owner.keys()})
        self.assertEqual(max(len(of) for of in held), 1)
        self.assertEqual(set().union(*held), {folder.name for folder in made})
        for key in (self.a, self.b):
            self.cli_with(key, "delete", "same", "--yes")

    def test_a_path_never_reaches_another_projects_function(self) -> None:
        example = json.loads((MODELS / "iris" / "example.json").read_text())
        self.assertServed(self.predict("shared", self.a))  # the node knows it now
        for name, version in (("a", "shared"), ("a", "shared@1")):
            path = f"/v2/models/{name}/versions/{version}"
            for method, rest, body in (("POST", "/infer", example), ("GET", "", None)):
                reply = self.ask(method, path + rest, self.own, body)
                self.assertIn(reply.status, (400, 404), reply.body)
            with grpc.insecure_channel(self.node.grpc) as channel:
                stub = rpc.GRPCInferenceServiceStub(channel)
                metadata = (("authorization", f"Bearer {self.own}"),)
                with self.assertRaises(grpc.RpcError) as refused:
                    stub.ModelMetadata(
                        pb.ModelMetadataRequest(name=name, version=version), metadata=metadata
                    )
                self.assertIn(
                    refused.exception.code(),
                    (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT),
                )

    def test_foreign_and_absent_functions_are_answered_alike(self) -> None:
        example = json.loads((MODELS / "iris" / "example.json").read_text())
        for method, path, body in (
            ("GET", "/v2/models/{}", None),
            ("GET", "/v2/models/{}/ready", None),
            ("GET", "/v2/models/{}/config", None),
            ("GET", "/v2/models/{}/stats", None),
            ("POST", "/v2/models/{}/infer", example),
            ("POST", "/functions/{}", {}),
            ("GET", "/v1/models/{}", None),
            ("GET", "/v1/models/{}/metadata", None),
            ("POST", "/v1/models/{}:predict", {"instances": []}),
            ("POST", "/v2/repository/models/{}/load", None),
            ("POST", "/v2/repository/models/{}/unload", None),
            ("GET", "/api/v1/functions/{}", None),
            ("GET", "/api/v1/functions/{}/versions", None),
            ("GET", "/api/v1/functions/{}/settings", None),
            ("PATCH", "/api/v1/functions/{}/settings", {"idle_timeout": "1s"}),
            ("GET", "/api/v1/functions/{}/history", None),
            ("GET", "/api/v1/functions/{}/traffic", None),
            ("PUT", "/api/v1/functions/{}/traffic", {"weights": {"1": 100}}),
            ("POST", "/api/v1/functions/{}/rollback", None),
            ("GET", "/api/v1/functions/{}/rollout", None),
            ("PUT", "/api/v1/functions/{}/aliases/x", {"version": 1}),
            ("GET", "/api/v1/functions/{}/logs", None),
            ("POST", "/api/v1/functions/{}/evict", None),
            ("DELETE", "/api/v1/functions/{}?force=true", None),
        ):
            with self.subTest(f"{method} {path}"):
                answers = []
                for name in ("only_a", "absent"):  # as long as each other
                    reply = self.ask(method, path.format(name), self.b, body)
                    answers.append((reply.status, reply.body.replace(name.encode(), b"NAME")))
                self.assertEqual(answers[0], answers[1])
                if not path.endswith("history"):
                    self.assertEqual(answers[0][0], 404, answers[0])
                self.assertNotIn(b"b/", answers[0][1])
                for spelled in ("a%2Fonly_a", "b%2Fshared", "default%2Fplain"):
                    reply = self.ask(method, path.format(spelled), self.b, body)
                    self.assertEqual(reply.status, 400, reply.body)
        self.assertEqual(self.names(self.a), ["only_a", "shared"])

    def test_grpc_keeps_projects_apart(self) -> None:
        with grpc.insecure_channel(self.node.grpc) as channel:
            stub = rpc.GRPCInferenceServiceStub(channel)
            a = (("authorization", f"Bearer {self.a}"),)
            b = (("authorization", f"Bearer {self.b}"),)
            self.assertEqual(
                stub.ModelMetadata(pb.ModelMetadataRequest(name="only_a"), metadata=a).name, "only_a"
            )
            listed = stub.RepositoryIndex(pb.RepositoryIndexRequest(), metadata=b).models
            self.assertEqual([model.name for model in listed], ["shared"])
            ready = stub.ModelReady(pb.ModelReadyRequest(name="only_a"), metadata=b)
            self.assertFalse(ready.ready)
            for call, message in (
                (stub.ModelMetadata, pb.ModelMetadataRequest),
                (stub.ModelConfig, pb.ModelConfigRequest),
                (stub.ModelStatistics, pb.ModelStatisticsRequest),
            ):
                said = []
                for name in ("only_a", "absent"):
                    with self.assertRaises(grpc.RpcError) as refused:
                        call(message(name=name), metadata=b)
                    details = refused.exception.details().replace(name, "NAME")
                    said.append((refused.exception.code(), details))
                self.assertEqual(said[0], said[1])
                self.assertEqual(said[0][0], grpc.StatusCode.NOT_FOUND)
            with self.assertRaises(grpc.RpcError) as refused:
                stub.ModelInfer(pb.ModelInferRequest(model_name="only_a"), metadata=b)
            self.assertEqual(refused.exception.code(), grpc.StatusCode.NOT_FOUND)
            self.assertServed(self.predict("only_a", self.a))
            statistics = stub.ModelStatistics(pb.ModelStatisticsRequest(), metadata=b).model_stats
            self.assertNotIn("only_a", [model.name for model in statistics])

    def test_uploads_are_found_and_resumed_within_a_project_only(self) -> None:
        content = (MODELS / "iris" / "model.onnx").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        path = f"/api/v1/blobs/{digest}"
        self.assertEqual(self.ask("HEAD", path, self.a).status, 200)
        self.assertEqual(self.ask("HEAD", path, self.own).status, 200)
        self.assertEqual(self.ask("HEAD", path, self.b).status, 404)
        files = {"files": [{"path": "model.onnx", "sha256": digest, "size": len(content)}]}
        refused = self.ask("POST", "/api/v1/functions/stolen/versions", self.b, files)
        self.assertRefused(refused, 404, "not_found", "does not have")

        begun = b"0123456789" * 1000
        path = f"/api/v1/blobs/{hashlib.sha256(begun).hexdigest()}"

        def append(key: str, offset: int, piece: bytes) -> int:
            headers = {
                "Authorization": f"Bearer {key}",
                "Upload-Offset": str(offset),
                "Upload-Length": str(len(begun)),
            }
            return self.node.request("PATCH", path, piece, headers).status

        self.assertEqual(append(self.a, 0, begun[:5000]), 202)
        self.assertEqual(self.ask("HEAD", path, self.a).headers["Upload-Offset"], "5000")
        self.assertEqual(self.ask("HEAD", path, self.b).headers["Upload-Offset"], "0")
        self.assertEqual(append(self.b, 5000, begun[5000:]), 409)
        self.assertEqual(append(self.b, 0, begun), 200)
        self.assertEqual(self.ask("HEAD", path, self.a).headers["Upload-Offset"], "5000")
        self.assertEqual(append(self.a, 5000, begun[5000:]), 200)

    def test_usage_is_of_the_project(self) -> None:
        self.assertServed(self.predict("only_a", self.a))
        for key, project in ((self.a, "a"), (self.b, "b"), (self.own, "default")):
            rows = self.ask("GET", "/api/v1/usage", key).json()["rows"]
            self.assertLessEqual({row["project"] for row in rows}, {project})
        mine = self.ask("GET", "/api/v1/usage?function=only_a", self.a).json()["rows"]
        self.assertEqual([(row["project"], row["function"]) for row in mine], [("a", "only_a")])
        self.assertEqual(self.ask("GET", "/api/v1/usage?function=only_a", self.b).json()["rows"], [])

    def test_keys_and_audit_log_are_of_the_project(self) -> None:
        made = self.ask("POST", "/api/v1/keys", self.a, {"scopes": "read:*"}).json()
        self.assertEqual(made["project"], "a")
        self.assertEqual(self.ask("DELETE", f"/api/v1/keys/{made['id']}", self.b).status, 404)
        self.assertEqual(self.ask("GET", "/api/v1/functions", made["key"]).status, 200)
        for body in ({"scopes": "read", "project": "b"}, {"scopes": "admin", "project": "default"}):
            self.assertRefused(self.ask("POST", "/api/v1/keys", self.a, body), 403, "missing_scope")
        metrics = self.ask("POST", "/api/v1/keys", self.a, {"scopes": "metrics"})
        self.assertRefused(metrics, 400, "invalid_setting")
        for key, project in ((self.a, "a"), (self.b, "b")):
            listed = self.ask("GET", "/api/v1/keys", key).json()["keys"]
            self.assertEqual({row["project"] for row in listed}, {project})
            entries = self.ask("GET", "/api/v1/audit?project=default", key).json()["entries"]
            self.assertEqual({entry["project"] for entry in entries}, {project})
        for path in ("/metrics", "/api/v1/doctor"):
            self.assertRefused(self.ask("GET", path, self.a), 403, "missing_scope", "default")
            self.assertEqual(self.ask("GET", path, self.own).status, 200)
        self.assertRefused(self.ask("POST", "/api/v1/gc", self.a), 403, "missing_scope", "default")

    def test_projects_survive_a_restart(self) -> None:
        self.node.kill()
        self.node.start()
        self.assertEqual(self.names(self.b), ["shared"])
        self.assertServed(self.predict("shared", self.a))
        self.assertServed(self.predict("plain", self.own))


class ShadowsTest(KeyedCase):
    """Both projects have every request copied to a shadow; one of them is slow."""

    def setUp(self) -> None:
        self.slow, self.quick = (
            self.make(EVERYTHING, "--project", project)["key"] for project in ("aa", "bb")
        )
        for key, name, model in ((self.slow, "slow", "slow"), (self.quick, "f", "adder")):
            for _ in range(2):
                self.deploy_with(key, name, model)
            traffic = {"weights": {"2": 100}, "shadows": {"1": 100}}
            shadowed = self.ask("PUT", f"/api/v1/functions/{name}/traffic", key, traffic)
            self.assertEqual(shadowed.status, 200, shadowed.body)
        # So that a core is left for shadows.
        settings = {"max_instances": 1, "queue_limit": 100}
        changed = self.ask("PATCH", "/api/v1/functions/slow/settings", self.slow, settings)
        self.assertEqual(changed.status, 200, changed.body)

    def compared(self, key: str, name: str) -> dict:
        rows = self.ask("GET", f"/api/v1/functions/{name}/traffic", key).json()["comparisons"]
        return rows[0] if rows else {"compared": 0, "failed": 0, "dropped": 0}

    def test_slow_requests_of_one_project_keep_no_copy_of_another_from_running(self) -> None:
        slow = {"inputs": [tensor("count", "INT64", [1], [100])]}
        numbers = {"inputs": [tensor("a", "FP32", [1], [5]), tensor("b", "FP32", [1], [6])]}
        with concurrent.futures.ThreadPoolExecutor(36) as threads:
            asked = [
                threads.submit(self.ask, "POST", "/v2/models/slow/infer", self.slow, slow)
                for _ in range(36)
            ]
            wait_until(lambda: any(one.done() for one in asked), "the first slow one is answered")
            for _ in range(10):
                self.assertServed(self.ask("POST", "/v2/models/f/infer", self.quick, numbers))

            def done() -> bool:
                row = self.compared(self.quick, "f")
                return sum(row[how] for how in ("compared", "failed", "dropped")) == 10

            wait_until(done, "every copy of the other project ran or was dropped")
            self.assertFalse(all(one.done() for one in asked))
        row = self.compared(self.quick, "f")
        self.assertGreater(row["compared"], 0, row)
        self.assertEqual(row["agreed"], row["compared"], row)
