"""Bytes in an S3-compatible store (store.s3): a real server, taken away, killed into, and refusing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from node import BIN, MODELS, Node, Reply, wait_until
from object_store import ObjectStore

LARGE = 160 << 20  # uploaded in parts


class ObjectStoreCase(unittest.TestCase):
    """One store a class, one node a test with a prefix of its own."""

    store: ObjectStore

    @classmethod
    def setUpClass(cls) -> None:
        cls.store = ObjectStore()
        cls.addClassCleanup(cls.store.close)

    def setUp(self) -> None:
        self.prefix = self.id().rpartition(".")[2]
        self.data = Path(tempfile.mkdtemp(prefix="mayfly-e2e-"))
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)
        self.node = Node(*self.store.settings(self.prefix), data=self.data)
        self.addCleanup(self.node.log.unlink, missing_ok=True)
        self.addCleanup(self.node.close)

    def blobs(self) -> list[str]:
        """Digests of the blobs of versions that the store has."""
        keys = self.store.keys(f"{self.prefix}/blobs/")
        return sorted(key.rpartition("/")[2] for key in keys if not key.endswith("/owner"))

    def restart(self, wipe: bool = False) -> None:
        self.assertEqual(self.node.stop(), 0)
        if wipe:
            for lost in ("blobs/sha256", "compiled"):
                shutil.rmtree(self.data / lost, ignore_errors=True)
                (self.data / lost).mkdir()
        self.node.start()

    def refused(self, *arguments: str) -> dict:
        done = self.node.cli(*arguments, "--json", check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return {"exit": done.returncode, "text": (done.stdout + done.stderr).decode()}


class ContractTest(unittest.TestCase):
    def test_the_contract_of_blob_stores_is_held_by_a_real_object_store(self) -> None:
        store = ObjectStore()
        self.addCleanup(store.close)
        environment = store.environment | {
            "MAYFLY_TEST_S3_ENDPOINT": store.url,
            "MAYFLY_TEST_S3_BUCKET": store.bucket,
        }
        done = subprocess.run(
            [str(BIN / "remote_test"), "--test-case=*real object store*"],
            env=os.environ | environment,
            capture_output=True,
            timeout=600,
            check=False,
        )
        said = done.stdout.decode()
        self.assertEqual(done.returncode, 0, said)
        self.assertIn("the contract was held by a real object store", said)


class ObjectStoreTest(ObjectStoreCase):
    def test_what_the_cache_lost_comes_from_the_store(self) -> None:
        self.node.deploy("iris")
        before = self.node.example("iris").json()["outputs"]
        model = hashlib.sha256((MODELS / "iris" / "model.onnx").read_bytes()).hexdigest()
        self.assertIn(model, self.blobs())
        self.restart(wipe=True)
        reply = self.node.example("iris")
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.json()["outputs"], before)
        self.assertTrue((self.data / "blobs" / "sha256" / model[:2] / model).exists())

    def test_a_small_cache_forgets_and_the_node_goes_on(self) -> None:
        self.assertEqual(self.node.stop(), 0)
        self.node._arguments += ("--store-cache", "0B")
        self.node.start()
        self.node.deploy("iris")
        self.assertEqual(self.node.example("iris").status, 200)
        cached = self.data / "blobs" / "sha256"
        # What the deploy held goes soon after it, whether or not anything else comes.
        wait_until(lambda: not any(path.is_file() for path in cached.rglob("*")), "the cache is empty", 30)
        self.restart(wipe=True)
        self.assertEqual(self.node.example("iris").status, 200)

    def test_what_nobody_needs_leaves_the_store(self) -> None:
        self.node.deploy("iris")
        backup = self.data.with_suffix(".backup")
        self.addCleanup(shutil.rmtree, backup, ignore_errors=True)
        self.restart(wipe=True)
        self.node.cli("backup", str(backup))
        self.assertEqual(len(list((backup / "blobs").rglob("*/*/*"))), len(self.blobs()))
        self.node.cli("delete", "iris", "--yes")
        self.assertTrue(self.blobs())  # young
        report = self.node.cli_json("gc")
        self.assertGreater(report["young_blobs"], 0, report)

    def test_files_of_jobs_are_there_too(self) -> None:
        self.node.deploy("iris")
        table = self.data.with_suffix(".csv")
        self.addCleanup(table.unlink, missing_ok=True)
        names = json.loads((MODELS / "iris" / "example.json").read_text())["inputs"]
        columns = [f"c{i}" for i in range(names[0]["shape"][-1])]
        table.write_text(",".join(columns) + "\n" + "5.1,3.5,1.4,0.2\n")
        content = table.read_bytes()
        self.node.request("POST", "/api/v1/blobs", content)
        digest = hashlib.sha256(content).hexdigest()
        wanted = {"kind": "batch", "input": {"sha256": digest}, "format": "csv", "output_format": "jsonl"}
        reply = self.node.post_json("/api/v1/functions/iris/jobs", wanted)
        self.assertEqual(reply.status, 202, reply.body)
        self.assertIn(f"{self.prefix}/jobs/{digest}", self.store.keys(f"{self.prefix}/jobs/"))
        where = reply.headers["Location"]
        over = ("done", "failed", "cancelled")
        wait_until(lambda: self.node.request("GET", where).json()["state"] in over, "it ends")

    def test_credentials_that_are_refused_are_named_and_shown_nowhere(self) -> None:
        self.store.refuse()
        self.addCleanup(self.store.allow)
        refused = self.refused("deploy", "iris", str(MODELS / "iris"))
        self.assertEqual(refused["exit"], 6, refused)
        for word in ("403", self.store.url, self.store.bucket, "store.s3_credentials"):
            self.assertIn(word, refused["text"])
        self.store.allow()
        self.node.deploy("iris")
        shown = self.node.log.read_text() + refused["text"] + self.node.cli("describe", "iris").stdout.decode()
        self.assertNotIn("something-else", shown)
        self.assertNotIn(self.store.secret_key, shown)

    def test_a_prefix_has_one_node_and_a_node_one_prefix(self) -> None:
        other = Path(tempfile.mkdtemp(prefix="mayfly-e2e-"))
        self.addCleanup(shutil.rmtree, other, ignore_errors=True)

        def start(data: Path, *settings: str) -> str:
            done = subprocess.run(
                [str(BIN / "mayfly"), "serve", "--listen", "127.0.0.1:0", "--grpc-listen", "off"]
                + ["--data", str(data), *settings],
                capture_output=True,
                timeout=60,
                check=False,
            )
            self.assertNotEqual(done.returncode, 0)
            return done.stderr.decode()

        self.assertIn("another data folder", start(other, *self.store.settings(self.prefix)))
        self.assertEqual(self.node.stop(), 0)
        self.assertIn("name that in store.s3", start(self.data))
        self.assertIn("copy the objects", start(self.data, *self.store.settings("elsewhere")))
        wrong = start(other, "--store-s3", "s3://x")
        self.assertIn("3 to 63", wrong)
        self.node.start()

    def test_blobs_of_a_node_without_a_store_move_there(self) -> None:
        data = Path(tempfile.mkdtemp(prefix="mayfly-e2e-"))
        node = Node(data=data)
        self.addCleanup(shutil.rmtree, data, ignore_errors=True)
        self.addCleanup(node.log.unlink, missing_ok=True)
        self.addCleanup(node.close)
        node.deploy("iris")
        self.assertEqual(node.stop(), 0)
        node._arguments += self.store.settings("moved")
        node.start()
        self.assertEqual(node.example("iris").status, 200)
        model = hashlib.sha256((MODELS / "iris" / "model.onnx").read_bytes()).hexdigest()
        self.assertIn(f"moved/blobs/{model}", self.store.keys("moved/blobs/"))


class StoreAwayTest(ObjectStoreCase):
    def test_running_functions_go_on_and_a_deploy_waits_for_the_store(self) -> None:
        self.node.deploy("iris")
        self.store.kill()
        self.assertEqual(self.node.example("iris").status, 200)
        refused = self.refused("deploy", "logistic", str(MODELS / "logistic"))
        self.assertEqual(refused["exit"], 6, refused)
        for word in (self.store.url, self.store.bucket, "othing is lost"):
            self.assertIn(word, refused["text"])
        self.assertEqual(self.node.example("iris").status, 200)
        self.restart()
        self.assertEqual(self.node.example("iris").status, 200)
        self.assertEqual(self.node.versions("iris"), [1])
        self.store.start()
        self.node.deploy("logistic", "logistic")
        self.assertEqual(self.node.example("logistic").status, 200)


    def test_a_silent_store_holds_up_no_restart(self) -> None:
        self.node.deploy("iris")
        self.assertIn("mayfly_object_store_up 1", self.node.request("GET", "/metrics").body.decode())
        self.assertEqual(self.node.stop(), 0)
        self.store.hold()
        self.addCleanup(self.store.go_on)
        before = time.monotonic()
        self.node.start()
        self.assertLess(time.monotonic() - before, 20)
        self.assertEqual(self.node.example("iris").status, 200)
        self.assertIn("what is cached is served", self.node.log.read_text())
        status = self.node.cli_json("status")["object_store"]
        self.assertFalse(status["answers"])
        self.assertIn(self.store.url, status["error"])
        self.assertIn("has not answered since", self.node.cli("status").stdout.decode())
        metrics = self.node.request("GET", "/metrics").body.decode()
        self.assertIn("mayfly_object_store_up 0", metrics)
        self.assertIn('mayfly_object_store_requests_total{kind="get",outcome="away"}', metrics)
        self.store.go_on()
        wait_until(lambda: self.node.cli_json("status")["object_store"]["answers"], "the node finds out", 120)


class KilledTest(ObjectStoreCase):
    def test_a_node_that_is_killed_while_it_uploads_goes_on(self) -> None:
        content = os.urandom(LARGE)
        digest = hashlib.sha256(content).hexdigest()
        path = f"/api/v1/blobs/{digest}"

        def upload(body: bytes, offset: int) -> Reply:
            headers = {"Upload-Offset": str(offset), "Upload-Length": str(len(content))}
            return self.node.request("PATCH", path, body, headers)

        def try_to_upload() -> None:
            try:
                upload(content, 0)
            except OSError:
                pass  # it was killed

        uploading = threading.Thread(target=try_to_upload)
        uploading.start()
        wait_until(self.is_uploading, "parts are on their way")
        self.node.kill()
        uploading.join()
        self.assertNotIn(digest, self.blobs())
        self.node.start()
        self.assertFalse(self.is_uploading())
        stands = self.node.request("HEAD", path)
        self.assertEqual((stands.status, stands.headers["Upload-Offset"]), (404, str(LARGE)))
        self.assertEqual(upload(b"", LARGE).status, 200)
        self.assertEqual(self.node.request("HEAD", path).status, 200)
        self.assertEqual(self.store.sha256(f"{self.prefix}/blobs/{digest}"), digest)

    def is_uploading(self) -> bool:
        return bool(self.store.uploads(self.prefix))


if __name__ == "__main__":
    unittest.main()
