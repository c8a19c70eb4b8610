"""Quotas: who is over one is told which, and nobody else notices."""

from __future__ import annotations

import concurrent.futures
import hashlib

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from keys_test import KeyedCase
from node import wait_until

EVERYTHING = "invoke:*,read:*,deploy:*,configure:*,admin"


class QuotasTest(KeyedCase):
    def setUp(self) -> None:
        none = ("requests_per_second", "concurrency", "gb_seconds_per_month")
        self.quota("a", *(f"{name}=0" for name in none), "memory=0", "stored_bytes=0")

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        case = cls("quota")
        cls.a = case.make(EVERYTHING, "--project", "a")["key"]
        cls.b = case.make(EVERYTHING, "--project", "b")["key"]
        for key in (cls.a, cls.b):
            case.deploy_with(key, "f")

    def quota(self, project: str = "a", *quotas: str) -> None:
        self.node.cli("project", "quota", project, *quotas, "--data", str(self.node.data))

    def send(self, method: str, path: str, key: str, body: bytes, headers: dict | None = None):
        allowed = {"Authorization": f"Bearer {key}", **(headers or {})}
        return self.node.request(method, path, body, allowed)

    def assertOver(self, reply, quota: str) -> None:
        self.assertRefused(reply, 429, "quota_exceeded", f"{quota}:")
        self.assertGreaterEqual(int(reply.headers["Retry-After"]), 1)

    def test_projects_are_made_and_listed(self) -> None:
        self.node.cli("project", "create", "c", "--data", str(self.node.data))
        again = self.node.cli("project", "create", "c", "--data", str(self.node.data), check=False)
        self.assertEqual(again.returncode, 4)
        listed = self.node.cli_json("project", "list", "--data", str(self.node.data))["projects"]
        self.assertLessEqual({"default", "a", "c"}, {project["name"] for project in listed})
        for bad in ("requests=1", "concurrency=-1", "concurrency=x", "concurrency", "memory=much"):
            refused = self.node.cli(
                "project", "quota", "a", bad, "--data", str(self.node.data), check=False
            )
            self.assertEqual(refused.returncode, 2, bad)
        for method, path, body in (
            ("POST", "/api/v1/projects", {"name": "d"}),
            ("GET", "/api/v1/projects", None),
            ("PATCH", "/api/v1/projects/a/quotas", {"concurrency": 0}),
        ):
            self.assertRefused(self.ask(method, path, self.a, body), 403, "missing_scope")

    def test_a_project_over_its_rate_is_refused_and_no_other(self) -> None:
        self.assertServed(self.predict("f", self.a))
        self.quota("a", "requests_per_second=2")
        replies = [self.predict("f", self.a) for _ in range(30)]
        over = [reply for reply in replies if reply.status != 200]
        self.assertTrue(over)
        self.assertOver(over[0], "requests_per_second")
        for _ in range(30):
            self.assertServed(self.predict("f", self.b))
        with grpc.insecure_channel(self.node.grpc) as channel:
            stub = rpc.GRPCInferenceServiceStub(channel)
            metadata = (("authorization", f"Bearer {self.a}"),)
            codes = set()
            for _ in range(30):
                try:
                    stub.ModelInfer(pb.ModelInferRequest(model_name="f"), metadata=metadata)
                except grpc.RpcError as error:
                    codes.add(error.code())
            self.assertIn(grpc.StatusCode.RESOURCE_EXHAUSTED, codes)
        self.node.stop()
        self.node.start()  # quotas stay
        self.assertIn(429, {self.predict("f", self.a).status for _ in range(30)})

    def test_a_project_over_its_concurrency_is_refused_and_no_other(self) -> None:
        self.deploy_with(self.a, "slow", "slow")
        self.quota("a", "concurrency=1")
        tensor = {"name": "count", "datatype": "INT64", "shape": [1], "data": [20_000_000]}
        body = {"inputs": [tensor], "parameters": {"timeout": 5_000_000}}
        with concurrent.futures.ThreadPoolExecutor() as threads:
            slow = threads.submit(self.ask, "POST", "/v2/models/slow/infer", self.a, body)

            def running() -> bool:
                functions = self.ask("GET", "/api/v1/top", self.a).json()["functions"]
                return any(one["name"] == "slow" and one["running"] for one in functions)

            wait_until(running, "the slow prediction runs")
            self.assertOver(self.predict("f", self.a), "concurrency")
            self.assertServed(self.predict("f", self.b))
            slow.result()
        self.assertServed(self.predict("f", self.a))

    def test_quotas_of_an_unknown_project_are_a_slip(self) -> None:
        slip = self.node.cli(
            "project", "quota", "aa", "concurrency=1", "--data", str(self.node.data), check=False
        )
        self.assertEqual(slip.returncode, 3)
        self.assertIn(b"there is no project 'aa'", slip.stderr)

    def test_a_project_over_its_memory_is_refused_and_no_other(self) -> None:
        self.assertServed(self.predict("f", self.a))
        self.quota("a", "memory=1MiB")
        self.ask("POST", "/api/v1/functions/f/evict", self.a)
        over = self.predict("f", self.a)
        self.assertOver(over, "memory")
        self.assertServed(self.predict("f", self.b))
        self.quota("a", "memory=1GiB")
        self.assertServed(self.predict("f", self.a))

    def test_a_project_over_its_stored_bytes_is_refused_and_no_other(self) -> None:
        hoarder = self.make(EVERYTHING, "--project", "hoarder")["key"]
        self.quota("hoarder", "stored_bytes=1MiB")
        big = bytes(1024 * 1024 + 1)
        digest = hashlib.sha256(big).hexdigest()
        headers = {"Upload-Offset": "0", "Upload-Length": str(len(big))}
        for method, path in (("PATCH", f"/api/v1/blobs/{digest}"), ("POST", "/api/v1/blobs")):
            over = self.send(method, path, hoarder, big, headers)
            self.assertRefused(over, 429, "quota_exceeded", "stored_bytes:")
            self.assertEqual(list((self.node.data / "blobs" / "partial").iterdir()), [])
            self.assertEqual(self.send(method, path, self.b, big, headers).status // 100, 2)
        small = self.send("POST", "/api/v1/blobs", hoarder, b"x" * 1000)
        self.assertEqual(small.status, 201, small.body)
        self.deploy_with(hoarder, "f")
        self.quota("hoarder", "stored_bytes=0")
        self.assertEqual(self.send("POST", "/api/v1/blobs", hoarder, big).status, 201)

    def test_a_project_that_used_its_month_is_refused(self) -> None:
        self.assertServed(self.predict("f", self.a))
        self.quota("a", "gb_seconds_per_month=1000000")
        self.assertServed(self.predict("f", self.a))
