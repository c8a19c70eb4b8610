"""Datasets of what lies elsewhere: https:// and s3://, fetched by the node, gone on with after a kill, refused in words."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import threading

from case import NodeCase
from jobs_test import OVER
from node import Node, free_port, wait_until
from object_store import ObjectStore
from python_test import text_of

TABLE = b"x,class\n" + b"".join(b"%d,%s\n" % (i, b"good" if i % 3 else b"bad") for i in range(60_000))


class Site:
    """Serves TABLE at any path, in the ways of sites: what it does at a path says its name."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.etag = '"v1"'
        self.slow = threading.Event()  # a drip until it is set
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                span = self.headers.get("Range")
                site.asked.append((self.path, span))
                if path == "/gone.csv":
                    return self.send_error(404)
                if path == "/private.csv":
                    self.send_response(302)
                    self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                start = int(span[len("bytes=") :].split("-")[0]) if span else 0
                if span and self.headers.get("If-Range", site.etag) != site.etag:
                    start = 0
                body = TABLE[start:]
                self.send_response(206 if start else 200)
                self.send_header("ETag", site.etag)
                self.send_header("Content-Type", "text/csv")
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(TABLE) - 1}/{len(TABLE)}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    if path == "/cut.csv" and not start:
                        self.wfile.write(body[: len(body) // 2])
                        self.close_connection = True
                        return
                    if path == "/slow.csv":
                        return self.drip(body)
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            def drip(self, body: bytes) -> None:
                for at in range(0, len(body), 4096):
                    self.wfile.write(body[at : at + 4096])
                    self.wfile.flush()
                    site.slow.wait(0.3)

            def log_message(self, *_) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_) -> None:
                pass  # a node that was killed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def close(self) -> None:
        self.slow.set()
        self.server.shutdown()
        self.server.server_close()


class DataSourcesTest(NodeCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.site = Site()
        cls.addClassCleanup(cls.site.close)
        cls.arguments = ("--egress-allow", f"127.0.0.1:{cls.site.port}")
        super().setUpClass()

    def put(self, name: str, *arguments: str, check: bool = True):
        return self.node.cli("data", "put", name, *arguments, check=check)

    def refused(self, name: str, *arguments: str) -> str:
        done = self.put(name, *arguments, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return text_of(done.stderr)

    def test_what_a_site_has_is_a_snapshot_like_any_other(self) -> None:
        said = text_of(self.put("web", self.site.url("table.csv?token=hidden"), "--target", "class").stdout)
        self.assertIn("web@1: 60,000 rows", said)
        shown = self.node.cli_json("data", "describe", "web")
        source = shown["sources"][0]
        self.assertEqual(source["url"], self.site.url("table.csv"))
        self.assertEqual(source["sha256"], hashlib.sha256(TABLE).hexdigest())
        self.assertEqual((source["size"], source["content_type"]), (len(TABLE), "text/csv"))
        jobs = self.node.cli("jobs", "list", "--json").stdout + self.node.cli("jobs", "show", shown["job"]).stdout
        self.assertNotIn("hidden", text_of(jobs) + str(shown) + self.node.log.read_text())
        # The same bytes from elsewhere, or from the disk, make no other one.
        self.assertIn("already", text_of(self.put("web", self.site.url("other.csv"), "--target", "class").stdout))
        (self.folder / "table.csv").write_bytes(TABLE)
        self.assertIn("already", text_of(self.put("web", str(self.folder / "table.csv"), "--target", "class").stdout))
        self.node.cli("data", "append", "web", self.site.url("more.csv"))
        self.assertEqual(sum(self.node.cli_json("data", "describe", "web")["rows"].values()), 120_000)

    def test_a_connection_that_breaks_is_gone_on_with(self) -> None:
        self.put("cut", self.site.url("cut.csv"))
        spans = [span for path, span in self.site.asked if path == "/cut.csv"]
        self.assertEqual(spans[0], None)
        self.assertRegex(spans[1], r"bytes=[1-9]\d*-")
        self.assertEqual(self.node.cli_json("data", "describe", "cut")["sources"][0]["size"], len(TABLE))

    def test_what_cannot_be_had_is_refused_in_words(self) -> None:
        self.assertIn("it answers 404", self.refused("no", self.site.url("gone.csv")))
        self.assertIn("169.254.169.254", self.refused("no", self.site.url("private.csv")))
        self.assertIn("[egress] allow", self.refused("no", f"http://127.0.0.1:{free_port()}/x.csv"))
        self.assertIn("nowhere.invalid", self.refused("no", "https://nowhere.invalid/x.csv"))
        self.assertIn("10.0.0.1 is not on the internet", self.refused("no", "https://10.0.0.1/x.csv"))
        self.assertIn("--format", self.refused("no", self.site.url("table")))
        self.assertIn("of s3://", self.refused("no", self.site.url("x.csv"), "--credentials", "KEYS"))
        self.assertIn("user", self.refused("no", f"http://me:pw@127.0.0.1:{self.site.port}/x.csv"))
        self.node.cli("project", "quota", "default", "job_bytes=100KiB")
        self.addCleanup(self.node.cli, "project", "quota", "default", "job_bytes=0")
        self.assertIn("job_bytes", self.refused("no", self.site.url("large.csv")))
        self.node.cli("project", "quota", "default", "job_bytes=0")
        self.assertNotEqual(self.node.cli("data", "describe", "no", check=False).returncode, 0)
        partial = self.node.data / "jobs" / "partial"
        self.assertEqual(list(partial.iterdir()), [])

    def test_a_download_that_is_cancelled_leaves_nothing(self) -> None:
        job = self.node.cli_json("data", "put", "stop", self.site.url("slow.csv"), "--detach")["id"]
        partial = self.node.data / "jobs" / "partial"
        wait_until(lambda: any(path.stat().st_size > 0 for path in partial.iterdir()), "it is on its way")
        wait_until(lambda: "fetching" in self.node.cli_json("jobs", "show", job)["progress"]["text"], "it says so")
        self.node.cli("jobs", "cancel", job)
        wait_until(lambda: not any(partial.iterdir()), "what came is gone", 60)


class DataSourcesKillTest(NodeCase):
    def test_a_node_that_is_killed_goes_on_where_it_stood(self) -> None:
        site = Site()
        self.addCleanup(site.close)
        node = Node("--egress-allow", f"127.0.0.1:{site.port}")
        self.addCleanup(node.close)
        job = node.cli_json("data", "put", "killed", site.url("slow.csv"), "--detach")["id"]
        # Behind its first stretch: the time of a slice is over, and the job has kept where it stands.
        wait_until(lambda: node.cli_json("jobs", "show", job)["slices"] > 0, "it has kept something", 90)
        node.kill()
        node.start()
        site.slow.set()
        wait_until(lambda: node.cli_json("jobs", "show", job)["state"] in OVER, "it ends", 120)
        shown = node.cli_json("jobs", "show", job)
        self.assertEqual(shown["state"], "done", shown)
        self.assertGreater(int(site.asked[-1][1][len("bytes=") :].rstrip("-")), 0)
        self.assertEqual(node.cli_json("data", "describe", "killed")["sources"][0]["sha256"], hashlib.sha256(TABLE).hexdigest())

    def test_what_changed_meanwhile_is_refused(self) -> None:
        site = Site()
        self.addCleanup(site.close)
        node = Node("--egress-allow", f"127.0.0.1:{site.port}")
        self.addCleanup(node.close)
        job = node.cli_json("data", "put", "changed", site.url("slow.csv"), "--detach")["id"]
        wait_until(lambda: node.cli_json("jobs", "show", job)["slices"] > 0, "it has kept something", 90)
        node.kill()
        site.etag = '"v2"'
        site.slow.set()
        node.start()
        wait_until(lambda: node.cli_json("jobs", "show", job)["state"] in OVER, "it ends", 120)
        shown = node.cli_json("jobs", "show", job)
        self.assertEqual((shown["state"], shown["reason"]), ("failed", "source_failed"), shown)
        self.assertIn("fetch it anew", shown["error"])


class DataStoreSourcesTest(NodeCase):
    def test_an_object_is_read_with_a_secret_of_the_project(self) -> None:
        store = ObjectStore()
        self.addCleanup(store.close)
        store.put("tables/credit.csv", TABLE)
        port = store.url.rpartition(":")[2]
        node = Node("--egress-allow", f"127.0.0.1:{port}")
        self.addCleanup(node.close)
        url = f"s3://{store.bucket}/tables/credit.csv"
        flags = ("--s3-endpoint", store.url, "--credentials", "S3_KEYS")

        def refused(*arguments: str) -> str:
            done = node.cli("data", "put", "credit", *arguments, check=False)
            self.assertNotEqual(done.returncode, 0, done.stdout)
            return text_of(done.stderr)

        self.assertIn("S3_KEYS", refused(url, *flags))
        node.cli("secret", "set", "S3_KEYS", stdin=b"not credentials")
        self.assertIn("holds no credentials", refused(url, *flags))
        wrong = f"[default]\naws_access_key_id = {store.access_key}\naws_secret_access_key = something-else\n"
        node.cli("secret", "set", "S3_KEYS", stdin=wrong.encode())
        self.assertIn("403", refused(url, *flags))
        node.cli("secret", "set", "S3_KEYS", "--from-file", str(store.credentials))
        done = node.cli("data", "put", "credit", url, *flags)
        self.assertIn("credit@1: 60,000 rows", text_of(done.stdout))
        source = node.cli_json("data", "describe", "credit")["sources"][0]
        self.assertEqual((source["url"], source["sha256"]), (url, hashlib.sha256(TABLE).hexdigest()))
        self.assertIn("404", refused(f"s3://{store.bucket}/absent.csv", *flags))
        everything = node.log.read_text() + subprocess.run(["ps", "axww"], capture_output=True, check=True).stdout.decode()
        self.assertNotIn(store.secret_key, everything)
        self.assertNotIn(store.access_key, node.log.read_text())
