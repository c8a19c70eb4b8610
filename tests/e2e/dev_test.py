"""mayfly dev: a folder served on a node of its own, again after each change, and nothing left at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import urllib.error
import urllib.request
from pathlib import Path

from node import BIN, alive, descendants, footprint, free_port, wait_until
from python_test import PythonCase


class DevTest(PythonCase):
    def setUp(self) -> None:
        self.home = self.folder / "cache"
        self.code = self.folder / "greet"
        self.code.mkdir(exist_ok=True)
        self.write("hello")
        self.port = free_port()
        self.said = self.folder / "said.txt"

    def write(self, word: str) -> None:
        (self.code / "function.py").write_text(textwrap.dedent(f"""
            def predict(inputs, state, ctx):
                print("asked for", inputs)
                return "{word} " + inputs
        """))

    def start(self, *more: str) -> subprocess.Popen:
        with open(self.said, "wb") as said:
            child = subprocess.Popen(
                [str(BIN / "mayfly"), "dev", str(self.code), "--listen", f"127.0.0.1:{self.port}", *more],
                stdout=said, stderr=said, env=os.environ | {"XDG_CACHE_HOME": str(self.home)})
        self.addCleanup(lambda: child.poll() is None and child.kill())
        return child

    def words(self) -> str:
        return self.said.read_text(errors="replace")

    def ask(self) -> str | None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/functions/greet", b'"you"',
                                         {"Content-Type": "application/json"})
        try:
            return urllib.request.urlopen(request, timeout=10).read().decode()
        except (urllib.error.URLError, OSError):
            return None

    def test_a_change_is_served_a_mistake_is_told_and_the_end_leaves_nothing(self) -> None:
        before = footprint()
        child = self.start()
        wait_until(lambda: self.ask() == '"hello you"', "it serves")
        wait_until(lambda: "| asked for you" in self.words(), "what it prints is shown")
        self.write("good day")
        wait_until(lambda: self.ask() == '"good day you"', "the change is served")
        (self.code / "function.py").write_text("def predict(:\n")
        wait_until(lambda: "the version before goes on serving" in self.words(), "the mistake is told")
        self.assertIn("SyntaxError", self.words())
        self.assertNotIn("mayfly_runtime", self.words())  # only what is his
        self.assertEqual(self.ask(), '"good day you"')
        self.write("once more")
        wait_until(lambda: self.ask() == '"once more you"', "it goes on")
        processes = descendants(child.pid)
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(30), 0, self.words())
        wait_until(lambda: not alive(processes), "its processes end with it")
        self.assertEqual(footprint() - before, set())

    def test_what_cannot_be_served_is_said(self) -> None:
        for arguments, word in (((str(self.folder / "none"),), "no such folder"),
                                ((str(self.code / "function.py"),), "name the folder"),
                                ((str(self.code), "--name", "a/b"), "is no name"),
                                ((str(self.code), "--listen", f"127.0.0.1:{self.node.port}"), "did not start")):
            done = subprocess.run([str(BIN / "mayfly"), "dev", *arguments], capture_output=True, text=True, timeout=60,
                                  check=False, env=os.environ | {"XDG_CACHE_HOME": str(Path(self.home))})
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(word, done.stderr)
