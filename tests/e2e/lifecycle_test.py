"""Instances and templates: start tiers, scaling to zero, crashes, and the end of the server."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import unittest

from case import NodeCase
from node import BIN, Node, cpu_ticks, tensor, variant, wait_until

ONE = tensor("x", "FP32", [1], [1])
OVERFLOW = (
    tensor("a", "INT32", [1], [-(2**31)]),
    tensor("b", "INT32", [1], [-1]),
)  # SIGFPE on x86-64


class TierTest(NodeCase):
    functions = {"f": "identity_fp32"}

    def test_cold_hot_template_and_back_to_zero(self) -> None:
        self.node.configure("f", idle_timeout="300ms", template_timeout="300ms")
        self.node.wait_until(lambda: self.node.running("f") == (0, 0), "f is at zero")
        self.node.configure("f", idle_timeout="1s", template_timeout="10m")
        self.assertEqual(self.ask(), "cold")
        self.assertEqual(self.ask(), "hot")
        self.node.wait_until(lambda: self.node.running("f")[0] == 0, "the instance ends")
        self.assertEqual(self.node.running("f"), (0, 1))
        self.assertEqual(self.ask(), "template")
        self.node.configure("f", idle_timeout="100ms", template_timeout="100ms")
        self.node.wait_until(lambda: self.node.running("f") == (0, 0), "f is at zero again")
        self.assertEqual(self.ask(), "cold")

    def test_min_instances_are_kept_without_traffic(self) -> None:
        self.node.configure("f", min_instances=2, idle_timeout="100ms")
        self.node.wait_until(lambda: self.node.running("f")[0] == 2, "two instances run")
        self.assertEqual(self.ask(), "hot")
        self.node.configure("f", min_instances=0)
        self.node.wait_until(lambda: self.node.running("f")[0] == 0, "they end")

    def ask(self) -> str | None:
        reply = self.node.infer("f", ONE)
        self.assertServed(reply)
        return reply.tier


class RequestIsolationTest(NodeCase):
    def test_every_prediction_gets_a_fresh_process(self) -> None:
        self.node.deploy("f", variant(self.folder, "identity_fp32", 'isolation = "request"'))
        for _ in range(5):
            reply = self.node.infer("f", ONE)
            self.assertServed(reply)
            self.assertNotEqual(reply.tier, "hot")
        self.node.wait_until(
            lambda: self.node.running("f")[0] == 0, "no instance outlives its request"
        )


class ThreadsTest(NodeCase):
    def test_a_model_with_two_threads_answers(self) -> None:
        self.node.deploy("f", variant(self.folder, "mlp1m", "threads = 2"))
        for _ in range(3):
            self.assertServed(self.node.example("f", "mlp1m"))


class FailureTest(NodeCase):
    functions = {
        "crash": "crash",
        "neighbour": "identity_fp32",
        "slow": "slow",
        "hog": "memory_hog",
    }

    @unittest.skipUnless(
        os.uname().machine == "x86_64", "other processors do not trap this division"
    )
    def test_a_crash_costs_its_request_and_nothing_else(self) -> None:
        for _ in range(3):
            self.assertRefused(self.node.infer("crash", *OVERFLOW), 500, "instance_crashed")
            self.assertServed(self.node.example("crash"))
            self.assertServed(self.node.infer("neighbour", ONE))

    def test_memory_over_the_limit_costs_its_request_and_nothing_else(self) -> None:
        self.assertRefused(
            self.node.infer("hog", tensor("mebibytes", "INT64", [1], [2048])), 500, "out_of_memory"
        )
        self.assertServed(self.node.example("hog", "memory_hog"))
        self.assertServed(self.node.infer("neighbour", ONE))

    def test_a_deadline_ends_the_instance_and_the_next_request_is_served(self) -> None:
        reply = self.node.infer(
            "slow", tensor("count", "INT64", [1], [1_000_000]), parameters={"timeout": 300_000}
        )
        self.assertRefused(reply, 504, "deadline_exceeded")
        self.assertServed(self.node.example("slow"))

    def test_an_instance_killed_from_outside_is_reported_and_replaced(self) -> None:
        replies = []
        asker = threading.Thread(
            target=lambda: replies.append(
                self.node.infer("slow", tensor("count", "INT64", [1], [1_000_000]))
            )
        )
        asker.start()
        self.node.wait_until(lambda: self.node.running("slow")[0] == 1, "an instance runs")
        busiest = lambda: max(self.node.processes(), key=lambda process: cpu_ticks(process[0]))[0]
        before = {pid: cpu_ticks(pid) for pid, _ in self.node.processes()}
        # The one that computes: the others only start and wait.
        self.node.wait_until(
            lambda: cpu_ticks(busiest()) - before.get(busiest(), 0) > 20 or not asker.is_alive(), "it works"
        )
        os.kill(busiest(), signal.SIGKILL)
        asker.join()
        self.assertRefused(replies[0], 500, "instance_crashed")
        self.assertServed(self.node.example("slow"))

    def test_a_client_that_leaves_frees_its_work(self) -> None:
        connection = self.node.connect()
        connection.request(
            "POST",
            "/v2/models/slow/infer",
            b'{"inputs":[{"name":"count","datatype":"INT64","shape":[1],"data":[1000000]}]}',
        )
        self.node.wait_until(lambda: self.node.running("slow")[0] >= 1, "the work began")
        connection.close()
        # Long before its deadline of 30 s, and before an idle instance would end.
        wait_until(lambda: self.node.running("slow")[0] == 0, "its instance ended", patience=10)


class ServerEndTest(unittest.TestCase):
    def setUp(self) -> None:
        self.node = Node()
        self.addCleanup(self.node.close)
        self.node.deploy("f", "identity_fp32")
        self.assertEqual(self.node.infer("f", ONE).status, 200)

    def test_kill_9_leaves_no_orphan_and_a_restart_serves(self) -> None:
        for _ in range(3):
            self.assertTrue(self.node.processes())
            self.node.kill()  # waits for the end of every process
            self.node.start()
            self.assertEqual(self.node.infer("f", ONE).status, 200)

    def test_sigterm_finishes_what_was_accepted(self) -> None:
        self.node.deploy("slow", "slow")
        self.assertEqual(self.node.example("slow").status, 200)
        replies = []
        asker = threading.Thread(
            target=lambda: replies.append(
                self.node.infer("slow", tensor("count", "INT64", [1], [1025]))
            )
        )
        asker.start()
        self.node.wait_until(
            lambda: any(cpu_ticks(pid) > 10 for pid, _ in self.node.processes()), "the work began"
        )
        self.assertEqual(self.node.stop(), 0)
        asker.join()
        self.assertEqual(replies[0].output("shift"), [1])

    def test_a_second_server_on_the_data_folder_is_refused(self) -> None:
        done = subprocess.run(
            [str(BIN / "mayfly"), "serve", "--listen", "127.0.0.1:0", "--data", str(self.node.data)],
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(self.node.process.pid), (done.stdout + done.stderr).decode())

    def test_it_does_not_listen_beyond_loopback(self) -> None:
        done = subprocess.run(
            [
                str(BIN / "mayfly"),
                "serve",
                "--listen",
                "0.0.0.0:0",
                "--data",
                f"{self.node.data}-other",
            ],
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"reachable from other machines", done.stderr)
