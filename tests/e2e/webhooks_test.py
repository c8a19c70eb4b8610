"""Webhooks: the ends of events are told, signed and pinned, to a server or to another function, whatever happens meanwhile."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import http.server
import json
import shutil
import socket
import ssl
import tempfile
import threading
import time
import unittest
from pathlib import Path

from case import NodeCase
from certificates import Authority
from events_crash_test import CrashingNode
from node import PATIENCE, Node, free_port, tensor, wait_until

ASYNC = {"Prefer": "respond-async"}
ONE = {"inputs": [tensor("x", "FP32", [1], [1])]}
BAD = {"inputs": [tensor("y", "FP32", [1], [1])]}  # no such input: dead at once


class Receiver:
    """A server that keeps what it is told, by path, and answers as `answers` says: status by path, or what to call."""

    def __init__(self, tls: tuple[Path, Path] | None = None, port: int = 0):
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, object] = {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append((self.path, headers, body))
                answer = receiver.answers.get(self.path, 204)
                if callable(answer):
                    answer = answer(self)
                if answer is None:
                    return
                self.send_response(answer)
                if 300 <= answer < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_) -> None:
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def of(self, path: str) -> list[tuple[dict[str, str], dict]]:
        return [(headers, json.loads(body)) for at, headers, body in self.received if at == path]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def verified(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """As the specification says: https://www.standardwebhooks.com."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    want = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return want in headers["webhook-signature"].split(" ")


class Sending:
    """What tests of webhooks ask of a node."""

    node: Node

    def send(self, name: str = "f", value=ONE) -> str:
        """The place of an event."""
        reply = self.node.post_json(f"/v2/models/{name}/infer", value, ASYNC)
        assert reply.status == 202, reply.body
        return reply.headers["Location"]

    def state(self, place: str) -> dict:
        return self.node.request("GET", place + "/state").json()

    def delivery(self, place: str) -> dict:
        wait_until(lambda: self.state(place).get("deliveries"), f"{place} has a delivery")
        return self.state(place)["deliveries"][-1]

    def settled(self, place: str) -> dict:
        wait_until(lambda: "settled" in self.delivery(place), f"{place} is told")
        return self.delivery(place)

    def tried(self, place: str) -> dict:
        """After an attempt that failed."""
        wait_until(lambda: self.delivery(place).get("last_error"), f"{place} is tried to be told")
        return self.delivery(place)

    def secret(self, *arguments: str) -> str:
        return self.node.cli("webhook", *(arguments or ("secret",))).stdout.decode().strip()


class WebhookCase(NodeCase, Sending):
    functions = {"f": "identity_fp32"}

    @classmethod
    def setUpClass(cls) -> None:
        cls.receiver = Receiver()
        cls.addClassCleanup(cls.receiver.close)
        cls.arguments = ("--egress-allow", f"127.0.0.1:{cls.receiver.port},localhost:{cls.receiver.port}")
        super().setUpClass()

    def tearDown(self) -> None:
        self.node.configure("f", on_success="", on_failure="")
        self.receiver.answers.clear()


class DeliveryTest(WebhookCase):
    def test_a_result_is_told_with_a_signature_that_others_verify(self) -> None:
        path = "/done?token=secret"
        self.node.configure("f", on_success=self.receiver.url(path), on_failure=self.receiver.url("/no"))
        place = self.send()
        told = self.settled(place)
        self.assertEqual(told["state"], "delivered")
        self.assertEqual(told["destination"], self.receiver.url("/done"))
        (at, headers, body), = [one for one in self.receiver.received if one[0] == path]
        self.assertTrue(verified(self.secret(), headers, body))
        self.assertFalse(verified(self.secret(), headers, body + b" "))
        self.assertFalse(verified(self.secret(), headers | {"webhook-id": "other"}, body))
        self.assertLess(abs(int(headers["webhook-timestamp"]) - time.time()), PATIENCE)
        self.assertEqual(headers["webhook-id"], told["id"])
        self.assertEqual(headers["content-type"], "application/json")
        letter = json.loads(body)
        self.assertEqual(letter["type"], "event.done")
        data = letter["data"]
        self.assertEqual(place, "/api/v1/events/" + data["event"])
        self.assertEqual(data["result_path"], place)
        self.assertEqual(data["result"], self.node.request("GET", place).json())
        self.assertEqual((data["function"], data["state"], data["attempts"]), ("f", "done", 1))
        self.assertEqual(data["version"], "1")
        self.assertEqual(self.receiver.of("/no"), [])
        metrics = self.node.request("GET", "/metrics").body.decode()
        self.assertIn('mayfly_delivery_attempts_total{outcome="delivered"}', metrics)
        self.assertIn("mayfly_deliveries_unsettled 0", metrics)

    def test_other_ends_are_told_to_the_other_destination(self) -> None:
        self.node.configure("f", on_failure=self.receiver.url("/failed"))
        dead = self.send(value=BAD)
        self.assertEqual(self.settled(dead)["of"], "dead")
        (_, letter), = self.receiver.of("/failed")
        self.assertEqual(letter["type"], "event.dead")
        self.assertEqual(letter["data"]["reason"], "invalid_input")
        self.assertNotIn("result", letter["data"])
        done = self.send()
        wait_until(lambda: self.state(done)["state"] == "done", "it is done")
        self.assertNotIn("deliveries", self.state(done))

    def test_what_fails_is_tried_again_and_what_is_gone_is_not(self) -> None:
        self.node.configure("f", on_success=self.receiver.url("/shaky"))
        self.receiver.answers["/shaky"] = lambda _: 500 if len(self.receiver.of("/shaky")) == 1 else 200
        place = self.send()
        self.assertEqual(self.settled(place)["attempts"], 2)
        (first, one), (second, two) = self.receiver.of("/shaky")
        self.assertEqual(first["webhook-id"], second["webhook-id"])
        self.assertEqual(one, two)

        self.node.configure("f", on_success=self.receiver.url("/gone"))
        self.receiver.answers["/gone"] = 410
        place = self.send()
        told = self.settled(place)
        self.assertEqual((told["state"], told["attempts"]), ("given_up", 1))
        self.assertIn("410", told["last_error"])
        self.receiver.answers.clear()
        event = place.rpartition("/")[2]
        self.node.cli("events", "f", "redeliver", event)
        wait_until(lambda: self.delivery(place)["state"] == "delivered", "it is told after all")

    def test_redirects_are_not_followed(self) -> None:
        self.node.configure("f", on_success=self.receiver.url("/moved"))
        self.receiver.answers["/moved"] = 302
        told = self.tried(self.send())
        self.assertIn("redirects are not followed", told["last_error"])
        self.assertEqual(self.receiver.of("/elsewhere"), [])

    def test_an_endless_reply_and_one_that_never_comes_hold_up_nobody(self) -> None:
        def flood(handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(b"x" * 65536)
            except OSError:
                handler.close_connection = True

        release = threading.Event()
        self.addCleanup(release.set)
        self.receiver.answers |= {"/flood": flood, "/hang": lambda _: release.wait() and None}
        self.node.configure("f", on_success=self.receiver.url("/flood"))
        self.assertEqual(self.settled(self.send())["state"], "delivered")
        # Two places of this host hang; another host has its own.
        self.node.configure("f", on_success=self.receiver.url("/hang"))
        hanging = [self.send() for _ in range(3)]
        wait_until(lambda: len(self.receiver.of("/hang")) == 2, "two hang")
        self.node.configure("f", on_success=self.receiver.url("/quick", "localhost"))
        quick = self.send()
        self.assertEqual(self.settled(quick)["state"], "delivered")
        self.assertEqual(len(self.receiver.of("/hang")), 2)
        late = [place for place in hanging if self.delivery(place)["state"] == "sending"]
        self.assertEqual(len(late), 2)
        # Its time as a whole and its time without a byte are equally long.
        self.assertRegex(self.tried(late[0])["last_error"], "takes too long|does not answer")

    def test_for_a_day_both_keys_are_good(self) -> None:
        first = self.secret()
        second = self.secret("rotate")
        self.assertNotEqual(first, second)
        self.node.configure("f", on_success=self.receiver.url("/rotated"))
        self.settled(self.send())
        (headers, body), = [(h, b) for path, h, b in self.receiver.received if path == "/rotated"]
        self.assertEqual(len(headers["webhook-signature"].split(" ")), 2)
        self.assertTrue(verified(first, headers, body))
        self.assertTrue(verified(second, headers, body))
        self.assertEqual(self.secret(), second)


class PolicyTest(NodeCase, Sending):
    """A node that allows nothing: everything private is refused."""

    functions = {"f": "identity_fp32"}

    def refused(self, destination: str) -> str:
        done = self.node.cli("configure", "f", f"on_success={destination}", check=False)
        self.assertNotEqual(done.returncode, 0, destination)
        return done.stderr.decode()

    def test_what_cannot_be_asked_cannot_be_set(self) -> None:
        self.assertIn("https", self.refused("http://hooks.example/"))
        for url in (
            "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "https://10.0.0.1/",
            "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/", "https://192.168.1.1:8443/", "https://100.64.0.1/",
        ):
            self.assertIn("not on the internet", self.refused(url))
        for url in ("https://u:p@hooks.example/", "https://127.1/", "ftp://a/", "https://a/#x", "nobody"):
            self.refused(url)
        self.assertIn("'nobody'", self.refused("function:nobody"))

    def test_a_name_that_leads_back_here_is_refused_when_it_is_resolved(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        listening.settimeout(0)
        self.node.configure("f", on_success=f"https://localhost:{listening.getsockname()[1]}/")
        told = self.tried(self.send())
        self.assertIn("loopback", told["last_error"])
        self.assertIn("[egress] allow", told["last_error"])
        with self.assertRaises(BlockingIOError):
            listening.accept()


class HttpsTest(unittest.TestCase, Sending):
    def test_certificates_are_verified_also_where_the_operator_allows_the_host(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mayfly-e2e-files-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
        trusted = Receiver(ours.issue("trusted", ("hooks.localhost",)))
        stranger = Receiver(theirs.issue("stranger", ("localhost",)))
        for receiver in (trusted, stranger):
            self.addCleanup(receiver.close)
        allow = f"localhost:{trusted.port},localhost:{stranger.port}"
        good = Receiver(ours.issue("good", ("localhost",)))
        self.addCleanup(good.close)
        self.node = Node("--egress-allow", f"{allow},localhost:{good.port}", "--egress-ca", str(ours.file))
        self.addCleanup(self.node.close)
        self.node.deploy("f", "identity_fp32")
        self.node.configure("f", on_success=good.url("/in", "localhost"))
        self.assertEqual(self.settled(self.send())["state"], "delivered")
        for receiver in (trusted, stranger):  # another name, another authority
            self.node.configure("f", on_success=receiver.url("/in", "localhost"))
            self.assertIn("not trusted", self.tried(self.send())["last_error"])
            self.assertEqual(receiver.received, [])


class FunctionTest(WebhookCase):
    functions = {"f": "identity_fp32", "slow": "slow"}

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = cls.folder / "told"
        folder.mkdir()
        (folder / "function.py").write_text(
            "def predict(inputs, state, ctx):\n    return {'of': inputs['data']['event'], 'type': inputs['type']}\n"
        )
        cls.node.deploy("told", folder)

    def events(self, name: str) -> list[dict]:
        return self.node.cli_json("events", name)["events"]

    def test_another_function_is_told_by_an_event_of_its_own(self) -> None:
        self.node.configure("f", on_success="function:told", on_failure="function:told")
        done, dead = self.send(), self.send(value=BAD)
        for place in (done, dead):
            told = self.settled(place)
            self.assertEqual((told["state"], told["attempts"]), ("delivered", 1))
            self.assertEqual(told["destination"], "function:told")
        wait_until(lambda: self.node.cli_json("events", "told")["counts"]["done"] == 2, "both are told")
        replies = [self.node.request("GET", f"/api/v1/events/{e['id']}").json() for e in self.events("told")]
        self.assertEqual(
            {(reply["of"], reply["type"]) for reply in replies},
            {(done.rpartition("/")[2], "event.done"), (dead.rpartition("/")[2], "event.dead")},
        )

    def test_functions_that_tell_each_other_do_not_do_so_for_ever(self) -> None:
        self.node.configure("told", on_success="function:told")
        self.addCleanup(self.node.configure, "told", on_success="")
        before = len(self.events("told"))
        self.node.configure("f", on_success="function:told")
        self.send()
        wait_until(lambda: len(self.events("told")) == before + 8, "eight follow")
        last = self.events("told")[0]
        told = self.settled(f"/api/v1/events/{last['id']}")
        self.assertEqual(told["state"], "given_up")
        self.assertIn("loop", told["last_error"])
        self.assertEqual(len(self.events("told")), before + 8)

    def test_who_may_not_invoke_a_function_may_not_have_it_told(self) -> None:
        node = Node()
        self.addCleanup(node.close)
        for name in ("a", "b"):
            node.deploy(name, "identity_fp32")
        scopes = "configure:a,read:*,invoke:a"
        made = node.cli_json("key", "create", "--scope", scopes, "--data", str(node.data))
        node.environment = {"MAYFLY_KEY": made["key"]}
        refused = node.cli("configure", "a", "on_success=function:b", check=False)
        self.assertIn("invoke:b", refused.stderr.decode())
        node.configure("a", on_success="function:a")
        self.assertNotEqual(node.cli("webhook", "secret", check=False).returncode, 0)


class CrashTest(unittest.TestCase, Sending):
    """The server dies by SIGKILL at each place where it writes something of a delivery: each end is told all the same."""

    def test_wherever_the_server_dies_every_end_is_told(self) -> None:
        receiver = Receiver()
        self.addCleanup(receiver.close)
        node = CrashingNode("--egress-allow", f"127.0.0.1:{receiver.port}")
        self.node = node
        self.addCleanup(node.close)
        for name in ("f", "g", "next"):
            node.deploy(name, "identity_fp32")
        node.configure("f", on_success=receiver.url("/done"), on_failure=receiver.url("/failed"))
        node.configure("g", on_success="function:next")
        for place in (
            "complete.after", "bury.after", "delivery_lease.after", "delivery_finish.before",
            "delivery_finish.after", "delivery_enqueue.before", "delivery_enqueue.after",
        ):
            with self.subTest(place):
                node.start_to_die(place, 1)
                for name, value in (("f", ONE), ("g", ONE), ("f", BAD)):
                    try:
                        self.send(name, value)
                    except (OSError, http.client.HTTPException):
                        break  # it has died already
                wait_until(node.died, f"it dies at {place}")
                self.assertEqual(node.process.returncode, -9, node.tail())
                node.start_again()
        for place in ("delivery_recover.before", "delivery_recover.after"):
            with self.subTest(place):
                node.start_to_die(place, 1)
                self.assertTrue(node.died())
                node.start_again()
        for name in ("f", "g"):
            wait_until(lambda: self.over(name), f"every event of {name} ends")
        places = [f"/api/v1/events/{event['id']}" for name in ("f", "g") for event in self.events(name)]
        self.assertGreaterEqual(len(places), 7)
        told = {place: self.settled(place) for place in places}
        self.assertEqual({one["state"] for one in told.values()}, {"delivered"})
        ids = {headers["webhook-id"] for _, headers, _ in receiver.received}
        urls = [one for one in told.values() if one["destination"] != "function:next"]
        self.assertEqual(ids, {one["id"] for one in urls})
        # Exactly once: what is accepted of another function is delivered in the same transaction.
        functions = [one for one in told.values() if one["destination"] == "function:next"]
        counts = node.cli_json("events", "next")["counts"]
        self.assertEqual(sum(counts.values()), len(functions))

    def events(self, name: str) -> list[dict]:
        return self.node.cli_json("events", name)["events"]

    def over(self, name: str) -> bool:
        return all(event["state"] not in ("waiting", "running") for event in self.events(name))

    def test_what_ended_before_anybody_listened_is_told_after_a_kill(self) -> None:
        port = free_port()
        self.node = Node("--egress-allow", f"127.0.0.1:{port}")
        self.addCleanup(self.node.close)
        self.node.deploy("f", "identity_fp32")
        self.node.configure("f", on_success=f"http://127.0.0.1:{port}/late", result_ttl="1s")
        place = self.send()
        self.tried(place)
        self.node.kill()
        receiver = Receiver(port=port)
        self.addCleanup(receiver.close)
        self.node.start()
        self.assertEqual(self.settled(place)["state"], "delivered")
        (_, letter), = receiver.of("/late")[-1:]
        self.assertEqual(letter["data"]["result"]["outputs"][0]["data"], [1])


if __name__ == "__main__":
    unittest.main()
