"""Files that mean harm, or are merely broken, through the command line: each is refused in words, or taken for what it is."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from case import NodeCase
from node import Node
from python_test import text_of


class DataHostileTest(NodeCase):
    def put(self, name: str, content: bytes, ending: str, *arguments: str):
        path = self.folder / f"{name}.{ending}"
        path.write_bytes(content)
        return self.node.cli("data", "put", name, str(path), *arguments, check=False)

    def refused(self, name: str, content: bytes, ending: str, *arguments: str) -> str:
        done = self.put(name, content, ending, *arguments)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        said = text_of(done.stderr)
        self.assertNotIn("Traceback", said)
        self.assertNotEqual(self.node.cli("data", "describe", name, check=False).returncode, 0)
        return said

    def taken(self, name: str, content: bytes, ending: str, *arguments: str) -> dict:
        done = self.put(name, content, ending, *arguments)
        self.assertEqual(done.returncode, 0, text_of(done.stderr))
        return self.node.cli_json("data", "describe", name)

    def zipped(self, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", method) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return held.getvalue()

    def test_what_is_empty_says_so(self) -> None:
        for ending, content, wanted in (
            ("csv", b"", "empty"), ("csv", b"\n\n", "empty"), ("csv", b"a,b\n", "no rows"),
            ("jsonl", b"", "empty"), ("jsonl", b"{}\n", "no line is"), ("arff", b"", "@|header|empty|data"),
            ("npz", b"", "zip|archive|empty"), ("zip", b"", "zip|archive|empty"), ("parquet", b"", "Parquet|parquet|empty"),
        ):
            with self.subTest(ending=ending, content=content):
                self.assertRegex(self.refused("empty", content, ending), wanted)

    def test_bombs_and_ways_out_of_an_archive(self) -> None:
        bomb = self.zipped({"a/x.png": bytes(200 << 20)})
        self.assertLess(len(bomb), 1 << 20)
        said = self.refused("bomb", bomb, "zip")
        self.assertIn("no PNG or JPEG file", said)
        self.assertRegex(self.refused("out", self.zipped({"../../etc/passwd": b"x"}), "zip"), "path|leads")
        self.assertRegex(self.refused("out", self.zipped({"/etc/passwd": b"x"}), "zip"), "path|leads")
        # A PNG that says it is 60,000 x 60,000, of few bytes.
        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
        chunk = b"IHDR" + header
        png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        said = self.refused("huge", self.zipped({"a/x.png": png}), "zip", "--max-bad-rows", "0")
        self.assertIn("no PNG or JPEG file", said)
        npz = self.zipped({"x.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,), }".ljust(128)})
        self.assertIn("length", self.refused("long", npz, "npz"))

    def test_pickles_are_never_loaded(self) -> None:
        held = io.BytesIO()
        np.savez(held, x=np.array([{"a": 1}, None], dtype=object))
        self.assertIn("pickle", self.refused("pickle", held.getvalue(), "npz"))
        held = io.BytesIO()
        np.savez(held, x=np.array(["a", "b"]))
        self.assertRegex(self.refused("texts", held.getvalue(), "npz"), "'x'")

    def test_lines_and_columns_without_end(self) -> None:
        said = self.refused("line", b"a,b\n1,2\n" + b"x" * (10 << 20) + b",2\n3,4\n", "csv")
        self.assertIn("line.csv: row 2 is longer than 8 MiB", said)
        said = self.refused("line", b'{"a":"' + b"x" * (10 << 20) + b'"}\n', "jsonl")
        self.assertRegex(said, "8 MiB|8388608|long|large")
        wide = ",".join(f"c{i}" for i in range(100_000)) + "\n" + ",".join("1" for _ in range(100_000)) + "\n"
        self.assertIn("4096", self.refused("wide", wide.encode(), "csv"))
        lines = "".join(json.dumps({f"k{i}_{j}": 1 for j in range(100)}) + "\n" for i in range(100))
        self.assertIn("4096", self.refused("wide", lines.encode(), "jsonl"))
        self.refused("deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "jsonl", "--max-bad-rows", "0")
        quote = b'a,b\n"1,2\n' + b"3,4\n" * 1000
        self.put("quote", quote, "csv")  # an open quote takes all of it, which must end

    def test_bytes_that_are_no_text(self) -> None:
        shown = self.taken("latin", "name,n\nZoë,1\nJosé,2\n".encode("latin-1"), "csv", "--column", "name=text")
        self.assertEqual(sum(shown["rows"].values()), 2)
        self.assertIn("\ufffd", text_of(self.node.cli("data", "describe", "latin").stdout))
        self.assertIn("no text", self.refused("zero", b"a\xff,b\x00c\n1,2\n3,4\n", "csv"))
        self.assertIn("no text", self.refused("sixteen", "a,b\n1,2\n".encode("utf-16"), "csv"))
        for ending in ("csv", "jsonl", "arff", "npz", "zip", "parquet"):
            with self.subTest(ending=ending):
                noise = np.random.default_rng(7).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
                done = self.put(f"noise-{ending}", noise, ending)
                self.assertLess(done.returncode, 64, done.stderr)

    def test_names_that_are_there_twice_or_too_long(self) -> None:
        self.assertIn("twice", self.refused("twice", b"a,a\n1,2\n", "csv"))
        self.assertIn("256", self.refused("long", b"a" * 300 + b",b\n1,2\n", "csv"))
        shown = self.taken("odd", b'"<script>",\x1b[31mred\n1,2\n', "csv")
        said = self.node.cli("data", "describe", "odd").stdout
        self.assertNotIn(b"\x1b", said)
        self.assertEqual(shown["schema"]["columns"][0]["name"], "<script>")

    def test_a_disk_that_is_full_fails_the_ingest_and_nothing_else(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mayfly-e2e-disk-"))
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(folder)], check=False)
        if mounted.returncode != 0:
            self.skipTest("nothing may be mounted here")
        self.addCleanup(folder.rmdir)
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
        node = Node(data=folder / "data")
        self.addCleanup(node.close)
        small = self.folder / "small.csv"
        small.write_text("x\n1\n2\n3\n")
        node.cli("data", "put", "small", str(small))
        large = self.folder / "large.csv"
        with open(large, "w", encoding="utf-8") as file:
            file.write("a,b,c,d,e,f,g,h\n")
            for i in range(400_000):
                file.write(f"{i % 10},1,2,3,4,5,6,{i % 7}\n")
        done = node.cli("data", "put", "large", str(large), check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(text_of(done.stderr), "storage_full|No space|disk")
        node.cli("data", "append", "small", str(small))
        self.assertEqual(sum(node.cli_json("data", "describe", "small")["rows"].values()), 6)
        self.assertNotEqual(node.cli("data", "describe", "large", check=False).returncode, 0)
