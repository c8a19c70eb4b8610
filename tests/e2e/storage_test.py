"""A full disk: predictions stop rather than go unrecorded, readiness turns false, and both come back."""

from __future__ import annotations

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from node import Node


@unittest.skipUnless(os.geteuid() == 0, "a small file system needs root to mount")
class FullDiskTest(unittest.TestCase):
    def setUp(self) -> None:
        self.disk = Path(tempfile.mkdtemp(prefix="full-disk-"))
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(self.disk)], check=True
        )
        self.addCleanup(self.disk.rmdir)
        self.addCleanup(subprocess.run, ["umount", str(self.disk)], check=True)
        self.node = Node(data=self.disk / "data")
        self.addCleanup(self.node.log.unlink, missing_ok=True)
        self.addCleanup(self.node.close)

    def fill(self) -> None:
        with open(self.disk / "filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(1 << 20))
            except OSError:
                pass
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass

    def test_predictions_stop_and_come_back(self) -> None:
        self.node.deploy("iris")
        self.assertEqual(self.node.example("iris").status, 200)
        self.fill()
        # What is left of the ledger's last page still takes some records.
        replies = [self.node.example("iris") for _ in range(60)]
        self.assertEqual(replies[-1].status, 503)
        self.assertEqual(replies[-1].reason, "storage_full")
        self.assertEqual(self.node.request("GET", "/v2/health/ready").status, 503)
        served = sum(reply.status == 200 for reply in replies) + 1
        self.assertEqual(self.node.usage("iris")["requests"], served)

        (self.disk / "filler").unlink()
        self.node.wait_until(
            lambda: self.node.request("GET", "/v2/health/ready").status == 200, "readiness returns"
        )
        self.assertEqual(self.node.example("iris").status, 200)
        self.assertEqual(self.node.usage("iris")["requests"], served + 1)
