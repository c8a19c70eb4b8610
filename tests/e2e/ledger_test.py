"""The bill equals what was asked; a backup brings a node back."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import unittest
from pathlib import Path

from case import NodeCase
from node import Node, cpu_ticks, tensor

ONE = tensor("x", "FP32", [1], [1])


class UsageTest(NodeCase):
    functions = {"f": "identity_fp32", "slow": "slow", "gather": "gather"}

    def test_every_request_is_on_the_bill_once(self) -> None:
        for _ in range(100):
            self.assertServed(self.node.infer("f", ONE))
        self.assertEqual(self.node.usage("f")["requests"], 100)

    def test_failed_runs_are_recorded_too(self) -> None:
        self.assertRefused(
            self.node.infer("gather", tensor("index", "INT64", [1], [9])), 400, "model_error"
        )
        self.assertServed(self.node.example("gather"))
        self.assertEqual(self.node.usage("gather")["requests"], 2)

    def test_cpu_time_is_that_of_the_work(self) -> None:
        work = tensor("count", "INT64", [1], [4000])
        self.assertServed(self.node.infer("slow", work))
        billed = -self.node.usage("slow")["cpu_seconds"]
        before = self.ticks()
        self.assertServed(self.node.infer("slow", work))
        billed += self.node.usage("slow")["cpu_seconds"]
        counted = (self.ticks() - before) / os.sysconf("SC_CLK_TCK")
        self.assertGreater(counted, 0.2)
        # Ticks are 10 ms; only the instance that ran uses processor time here.
        self.assertAlmostEqual(billed, counted, delta=0.03 + 0.02 * counted)

    def ticks(self) -> int:
        return sum(cpu_ticks(pid) for pid, name in self.node.processes() if "runner" in name)

    def test_metrics_count_the_same_requests(self) -> None:
        def counted() -> int:
            text = self.node.request("GET", "/metrics").body.decode()
            answered = r'^mayfly_requests_total{function="gather",reason="",tier="[a-z]+",version="1"} (\d+)$'
            return sum(map(int, re.findall(answered, text, re.M)))

        before = counted(), self.node.usage("gather")["requests"]
        for _ in range(7):
            self.assertServed(self.node.example("gather"))
        self.assertEqual(counted() - before[0], 7)
        self.assertEqual(self.node.usage("gather")["requests"] - before[1], 7)


class DurabilityTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mayfly-e2e-files-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_kill_9_neither_loses_nor_doubles_a_record(self) -> None:
        node = self.start()
        node.deploy("f", "identity_fp32")
        for round_ in range(1, 4):
            for _ in range(50):
                self.assertEqual(node.infer("f", ONE).status, 200)
            node.kill()
            node.start()
            self.assertEqual(node.usage("f")["requests"], 50 * round_)

    def test_a_backup_of_a_running_node_restores_and_predicts(self) -> None:
        node = self.start()
        node.deploy("f", "identity_fp32")
        node.deploy("iris")
        for _ in range(10):
            self.assertEqual(node.infer("f", ONE).status, 200)
        backup, data = self.folder / "backup", self.folder / "restored"
        node.cli("backup", str(backup))
        node.cli("restore", str(backup), "--data", str(data))
        restored = self.start(data=data)
        self.assertEqual(restored.infer("f", ONE).output("y"), [1])
        self.assertEqual(
            restored.example("iris").output("label"), ["setosa", "versicolor", "virginica"]
        )
        self.assertEqual(restored.usage("f")["requests"], 11)

    def test_restore_refuses_a_folder_in_use_and_a_damaged_backup(self) -> None:
        node = self.start()
        node.deploy("f", "identity_fp32")
        backup = self.folder / "backup"
        node.cli("backup", str(backup))
        self.assertNotEqual(
            node.cli("restore", str(backup), "--data", str(node.data), check=False).returncode, 0
        )
        victim = max(
            (path for path in backup.rglob("*") if path.is_file()),
            key=lambda path: path.stat().st_size,
        )
        victim.chmod(0o644)
        victim.write_bytes(victim.read_bytes()[:-1] + b"?")
        done = node.cli("restore", str(backup), "--data", str(self.folder / "other"), check=False)
        self.assertNotEqual(done.returncode, 0)

    def start(self, **options) -> Node:
        node = Node(**options)
        self.addCleanup(node.close)
        return node
