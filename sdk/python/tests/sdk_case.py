"""What the tests share: nodes, and both clients behind one face."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "e2e"))  # its names must not hide those of the tests here

from case import NodeCase  # noqa: E402

import mayfly  # noqa: E402

_folders = itertools.count()


class Awaited:
    """An AsyncClient, or a job of one, that is called as a Client is: each call runs a loop of its own until it is done."""

    def __init__(
        self, client: mayfly.AsyncClient | mayfly.AsyncJob, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str):
        method = getattr(self._client, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return lambda *args, **rest: self._same(
            self._loop.run_until_complete(method(*args, **rest))
        )

    def _same(self, result):
        if isinstance(result, list):
            return [self._same(item) for item in result]
        return Awaited(result, self._loop) if isinstance(result, mayfly.AsyncJob) else result


class BothClients:
    """Mixed into a case whose tests ask `self.client(url, …)`; a subclass of each case runs them with each client."""

    asynchronous = False

    def client(self, url: str, **rest):
        if not self.asynchronous:
            client = mayfly.Client(url, **rest)
            self.addCleanup(client.close)
            return client
        loop = asyncio.new_event_loop()
        client = mayfly.AsyncClient(url, **rest)
        self.addCleanup(loop.close)
        self.addCleanup(lambda: loop.run_until_complete(client.close()))
        return Awaited(client, loop)

    def assertFails(self, kind, call, *args, text: str = "", **rest):
        with self.assertRaises(kind) as caught:
            call(*args, **rest)
        self.assertIn(text, str(caught.exception))
        return caught.exception


class SdkCase(BothClients, NodeCase):
    """A node, and `self.mayfly`, a client of it."""

    def setUp(self) -> None:
        self.mayfly = self.client(self.node.url)


class PythonNode(SdkCase):
    """`code`: functions of one Python file each."""

    arguments = ("--index-url", "off")
    code: dict[str, str] = {}

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for name, code in cls.code.items():
            folder = cls.folder / f"function-{name}"
            folder.mkdir()
            (folder / "function.py").write_text(textwrap.dedent(code))
            cls.node.cli("deploy", name, str(folder))

    def place(self) -> Path:
        """An empty folder."""
        folder = self.folder / f"place-{next(_folders)}"
        folder.mkdir()
        return folder
