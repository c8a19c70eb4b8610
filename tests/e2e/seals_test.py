"""What lies on the disk is what was put there: seals of compiled forms, and the scrub."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from case import NodeCase
from node import MODELS


def flip(path: Path) -> None:
    """One byte other, in place; neither size nor time of change tell."""
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    with open(path, "r+b") as file:
        file.write(data)
    path.chmod(0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class SealTest(NodeCase):
    functions = {"iris": "iris"}

    def forms(self) -> list[Path]:
        return sorted((self.node.data / "compiled").iterdir())

    def restart(self) -> None:
        self.node.stop()
        self.node.start()

    def published_again(self) -> int:
        return self.node.log.read_text().count("artifact compiled again")

    def test_a_form_that_was_changed_is_made_again_and_never_served(self) -> None:
        expected = self.node.example("iris").json()["outputs"]
        model = max(self.forms()[0].iterdir(), key=lambda file: file.stat().st_size)
        self.restart()
        self.assertServed(self.node.example("iris"))
        self.assertEqual(self.published_again(), 0)  # what is whole is taken as it is
        for what, spoil in (
            ("another file", lambda: (model.unlink(), model.write_bytes(b"evil"))),
            ("written in place", lambda: (model.chmod(0o644), model.write_bytes(model.read_bytes()[::-1]))),
            ("no record", lambda: (model.parent / "seal.json").unlink()),
        ):
            with self.subTest(what):
                before = self.published_again()
                self.node.cli("evict", "iris")
                self.node.wait_until(lambda: self.node.running("iris") == (0, 0), "iris is at zero")
                spoil()
                reply = self.node.example("iris")
                self.assertServed(reply)
                self.assertEqual(reply.json()["outputs"], expected)
                self.assertEqual(self.published_again(), before + 1)

    def test_a_node_that_lost_its_key_makes_its_forms_again(self) -> None:
        self.assertEqual((self.node.data / "node.key").stat().st_mode & 0o777, 0o600)
        before = self.published_again()
        self.node.stop()
        (self.node.data / "node.key").unlink()
        self.node.start()
        self.assertServed(self.node.example("iris"))
        self.assertEqual(self.published_again(), before + 1)


class ScrubTest(NodeCase):
    functions = {"iris": "iris"}
    arguments = ("--scrub-interval", "1s", "--scrub-rate", "0")

    def scrubbed(self, event: str) -> float:
        for line in self.node.request("GET", "/metrics").body.decode().splitlines():
            if line.startswith(f'mayfly_scrub_total{{event="{event}"}}'):
                return float(line.split()[-1])
        return 0

    def test_the_scrub_finds_what_no_start_can_see(self) -> None:
        self.assertServed(self.node.example("iris"))
        self.assertTrue(self.node.cli_json("describe", "iris")["integrity"]["whole"])
        form = next((self.node.data / "compiled").iterdir())
        flip(max(form.glob("*.o*"), key=lambda file: file.stat().st_size))
        self.node.wait_until(lambda: self.scrubbed("damaged_form") == 1, "the form's damage is found")
        self.assertTrue((self.node.data / "quarantine" / f"form-{form.name}").is_dir())
        self.assertServed(self.node.example("iris"))
        about = self.node.cli_json("describe", "iris")
        self.assertEqual(about["integrity"]["quarantined_forms"], [f"form-{form.name}"])
        self.assertIn("quarantine", self.node.cli("describe", "iris").stdout.decode())

        digest = hashlib.sha256((MODELS / "iris" / "model.onnx").read_bytes()).hexdigest()
        flip(self.node.data / "blobs" / "sha256" / digest[:2] / digest)
        self.node.wait_until(lambda: self.scrubbed("damaged_blob") == 1, "the blob's damage is found")
        self.assertEqual(self.node.cli_json("describe", "iris")["integrity"]["missing_files"], ["model.onnx"])
        self.assertIn("DAMAGED", self.node.cli("describe", "iris").stdout.decode())
        kinds = lambda: [line["kind"] for line in self.node.cli_json("history", "iris")["history"]]
        self.node.wait_until(lambda: kinds().count("scrub") == 2, "the history says so")
        self.assertIn("quarantine", self.node.tail(200))
        # What is compiled serves on; without it there is nothing to make it of, and the start says so.
        self.assertServed(self.node.example("iris"))
        self.node.cli("evict", "iris")
        shutil.rmtree(next((self.node.data / "compiled").iterdir()))
        self.node.wait_until(lambda: self.node.running("iris") == (0, 0), "iris is at zero")
        reply = self.node.example("iris")
        self.assertNotEqual(reply.status, 200)
        self.assertIn("model.onnx", reply.body.decode())
        # The same again mends it.
        self.node.cli("deploy", "iris", str(MODELS / "iris"))
        self.assertServed(self.node.example("iris"))
        self.assertTrue(self.node.cli_json("describe", "iris")["integrity"]["whole"])
