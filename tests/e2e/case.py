"""The base of every end-to-end test: one node a class, functions deployed before the first test."""

from __future__ import annotations

import shutil
import tempfile
import unittest
from pathlib import Path

from node import Node


class NodeCase(unittest.TestCase):
    """`functions`: function name -> generated model, deployed once. `arguments`: flags of `mayfly serve`."""

    functions: dict[str, str] = {}
    arguments: tuple[str, ...] = ()
    node: Node

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="mayfly-e2e-files-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.node = Node(*cls.arguments)
        cls.addClassCleanup(cls.node.close)  # raises for whatever the node leaves behind
        for name, model in cls.functions.items():
            cls.node.deploy(name, model)

    def assertRefused(self, reply, status: int, reason: str | None = None, text: str = "") -> None:
        """A v2 error: the status, the reason, and a message that contains `text`."""
        self.assertEqual(reply.status, status, reply.body[:500])
        body = reply.json()
        self.assertTrue(body["error"])
        if reason is not None:
            self.assertEqual(body["reason"], reason, body)
        self.assertIn(text, body["error"])

    def assertServed(self, reply) -> None:
        self.assertEqual(reply.status, 200, reply.body[:500])
