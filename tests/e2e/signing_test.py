"""Signed versions: exported, verified by another implementation of the format, imported; and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from case import NodeCase
from node import MODELS, Node

VERIFIER = [sys.executable, "-m", "model_signing"]


def another_verifies(folder: Path, key: Path) -> subprocess.CompletedProcess:
    """What the reference implementation of OpenSSF Model Signing says of a folder."""
    return subprocess.run(
        [*VERIFIER, "verify", "key", str(folder), "--signature", str(folder / "model.sig"), "--public_key", str(key)],
        capture_output=True,
        text=True,
        check=False,
    )


class SigningCase(NodeCase):
    def export(self, ref: str, name: str, node: Node | None = None) -> Path:
        folder = self.folder / name
        (node or self.node).cli("export", ref, str(folder))
        return folder

    def public_key(self, name: str, node: Node | None = None) -> Path:
        pem = (node or self.node).cli("signing-key", "show", name).stdout
        path = self.folder / f"{name}.pem"
        path.write_bytes(pem)
        return path

    def signer(self, node: Node | None = None) -> dict:
        keys = (node or self.node).cli_json("signing-key", "list")["keys"]
        return next(key for key in keys if key["signs"])

    def copy(self, folder: Path, name: str) -> Path:
        return Path(shutil.copytree(folder, self.folder / name))

    def refused(self, *arguments: str) -> str:
        done = self.node.cli(*arguments, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr.decode()

    def provenance(self, ref: str) -> dict:
        return self.node.cli_json("describe", ref)["provenance"]


class SigningTest(SigningCase):
    functions = {"iris": "iris"}

    def test_every_version_is_signed_and_another_implementation_verifies_it(self) -> None:
        self.node.cli("signing-key", "create", "release")
        self.node.deploy("verified", "logistic")
        folder = self.export("verified@1", "verified")
        key = self.public_key("release")
        listed = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        self.assertLessEqual({"README.md", "manifest.json", "model.sig", "model/model.onnx"}, listed)
        self.assertIn("release", self.node.cli("describe", "verified").stdout.decode())
        done = another_verifies(folder, key)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # And it is the bytes that it verifies.
        model = folder / "model" / "model.onnx"
        model.write_bytes(model.read_bytes()[:-1] + b"!")
        done = another_verifies(folder, key)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("model.onnx", done.stdout + done.stderr)

    def test_a_folder_goes_to_another_node_that_trusts_its_key(self) -> None:
        folder = self.export("iris", "to-another")
        elsewhere = Node()
        self.addCleanup(elsewhere.close)
        done = elsewhere.cli("import", "flowers", str(folder), check=False)
        self.assertIn(b"does not trust", done.stderr)
        name = self.signer()["name"]
        elsewhere.cli("signing-key", "trust", "partner", str(self.public_key(name)))
        elsewhere.cli("import", "flowers", str(folder))
        body = (MODELS / "iris" / "example.json").read_bytes()
        reply = elsewhere.request("POST", "/v2/models/flowers/infer", body)
        self.assertServed(reply)
        self.assertEqual(reply.json()["outputs"], self.node.example("iris").json()["outputs"])
        about = elsewhere.cli_json("describe", "flowers")["provenance"]
        self.assertEqual(about["imported"]["signer"], "partner")
        self.assertFalse(about["imported"]["unsigned"])
        # It vouches for what it made of it with a key of its own.
        self.assertTrue(about["signed"])
        self.assertEqual(about["key"], self.signer(elsewhere)["id"])

    def test_whatever_was_altered_is_refused(self) -> None:
        folder = self.export("iris", "altered")

        def tamper(name: str, how) -> str:
            copy = self.copy(folder, name)
            how(copy)
            return self.refused("import", "never", str(copy))

        def flip(path: Path) -> None:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

        def rename_options(copy: Path) -> None:
            manifest = json.loads((copy / "manifest.json").read_text())
            manifest["options"]["threads"] = 2
            (copy / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))

        def other_statement(copy: Path) -> None:
            bundle = json.loads((copy / "model.sig").read_text())
            payload = bundle["dsseEnvelope"]["payload"]
            bundle["dsseEnvelope"]["payload"] = ("B" if payload[40] == "A" else "A").join([payload[:40], payload[41:]])
            (copy / "model.sig").write_text(json.dumps(bundle))

        for name, how, words in (
            ("bit", lambda copy: flip(copy / "model" / "model.onnx"), ("model/model.onnx", "signed")),
            ("options", rename_options, ("manifest.json", "signed")),
            ("extra", lambda copy: (copy / "model" / "extra.py").write_text("x"), ("extra.py", "none of the files")),
            ("top", lambda copy: (copy / "note.txt").write_text("x"), ("note.txt", "none of the files")),
            ("missing", lambda copy: next((copy / "model").iterdir()).unlink(), ("missing",)),
            ("statement", other_statement, ("signature", "altered")),
            ("garbage", lambda copy: (copy / "model.sig").write_text("{"), ("signature",)),
            ("unsigned", lambda copy: (copy / "model.sig").unlink(), ("not signed", "--unsigned")),
            ("link", lambda copy: (copy / "model" / "out").symlink_to("/etc/hostname"), ("links",)),
        ):
            with self.subTest(name):
                message = tamper(name, how)
                for word in words:
                    self.assertIn(word, message)
        self.assertEqual(self.node.request("GET", "/api/v1/functions/never").status, 404)
        # A signature that is wrong is not passed over, whatever is asked.
        copy = self.copy(folder, "tampered-unsigned")
        flip(copy / "model" / "model.onnx")
        self.assertIn("signed", self.refused("import", "never", str(copy), "--unsigned"))

    def test_paths_that_leave_the_folder_are_refused(self) -> None:
        folder = self.export("iris", "paths")
        files = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in ("model.sig", "README.md"):
                digest = self.upload(path.read_bytes())
                size = path.stat().st_size
                files.append({"path": str(path.relative_to(folder)), "sha256": digest, "size": size})
        signature = self.upload((folder / "model.sig").read_bytes())
        for path in ("../model.onnx", "/model.onnx", "model/../../x"):
            wrong = [*files[:-1], files[-1] | {"path": path}]
            imported = {"layout": "export", "signature": signature}
            reply = self.node.post_json("/api/v1/functions/never/versions", {"files": wrong, "imported": imported})
            self.assertRefused(reply, 400, "invalid_manifest", "inside the folder")

    def upload(self, data: bytes) -> str:
        return self.node.request("POST", "/api/v1/blobs", data).json()["sha256"]

    def test_what_nobody_signed_needs_a_word_and_stays_visible(self) -> None:
        folder = self.export("iris", "nobody")
        (folder / "model.sig").unlink()
        self.node.cli("import", "bare", str(folder), "--unsigned")
        self.assertServed(self.node.example("bare", "iris"))
        about = self.provenance("bare")
        self.assertFalse(about["signed"])
        self.assertTrue(about["imported"]["unsigned"])
        self.assertIn("nobody", self.node.cli("describe", "bare").stdout.decode())
        self.assertIn("unsigned import", self.node.cli("versions", "bare").stdout.decode())
        # It is not washed by going through here.
        again = self.export("bare", "nobody-again")
        self.assertFalse((again / "model.sig").exists())
        self.assertIn("not signed", self.refused("import", "bare", str(again)))

    def test_a_revoked_key_signs_nothing_and_nothing_of_it_is_taken(self) -> None:
        made = self.node.cli_json("signing-key", "create", "short-lived")
        self.node.deploy("revoked", "logistic")
        folder = self.export("revoked", "revoked")
        self.node.cli("import", "revoked", str(folder))
        self.node.cli("signing-key", "revoke", "short-lived")
        message = self.refused("import", "revoked", str(folder))
        self.assertIn("revoked", message)
        self.assertTrue(self.provenance("revoked@1")["revoked"])
        self.assertIn("key revoked", self.node.cli("versions", "revoked").stdout.decode())
        self.node.deploy("revoked", "logistic")
        self.assertNotEqual(self.provenance("revoked@3")["key"], made["id"])
        # Taken as what it is: signed by nobody whom the project trusts.
        self.node.cli("import", "revoked", str(folder), "--unsigned")
        self.assertIn("revoked", self.provenance("revoked@4")["imported"]["refused"])
        actions = {entry["action"] for entry in self.node.cli_json("audit", "--data", str(self.node.data))["entries"]}
        self.assertLessEqual({"signing_key.create", "signing_key.revoke"}, actions)

    def test_keys_are_sealed_at_rest(self) -> None:
        self.assertEqual((self.node.data / "secrets.key").stat().st_mode & 0o777, 0o600)
        listed = self.node.request("GET", "/api/v1/signing-keys").body
        self.assertNotIn(b"PRIVATE", listed)
        for path in self.node.data.glob("identity.db*"):
            self.assertNotIn(b"PRIVATE KEY", path.read_bytes())


class MlflowTest(SigningCase):
    """Model folders as `mlflow.onnx` saves them."""

    def saved(self, name: str, model: str = "logistic", flavour: str = "onnx") -> Path:
        folder = self.folder / name
        folder.mkdir()
        shutil.copy(MODELS / model / "model.onnx", folder / "model.onnx")
        (folder / "requirements.txt").write_text("mlflow\nonnx\n")
        (folder / "conda.yaml").write_text("name: mlflow-env\n")
        (folder / "MLmodel").write_text(
            f"flavors:\n  {flavour}:\n    data: model.onnx\n    onnx_version: 1.17.0\n"
            "  python_function:\n    data: model.onnx\n    loader_module: mlflow.onnx\nmlflow_version: 2.18.0\n"
        )
        return folder

    def test_an_onnx_flavour_is_imported_as_what_it_is(self) -> None:
        folder = self.saved("plain")
        self.assertIn("--unsigned", self.refused("import", "logistic", str(folder)))
        self.node.cli("import", "logistic", str(folder), "--unsigned")
        self.assertServed(self.node.example("logistic"))
        self.assertEqual(self.provenance("logistic")["imported"]["layout"], "files")

    def test_one_that_another_implementation_signed_needs_no_word(self) -> None:
        folder = self.saved("signed")
        private, public = self.folder / "ec.key", self.folder / "ec.pem"
        for command in (
            ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)],
            ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)],
            [*VERIFIER, "sign", "key", str(folder), "--signature", str(folder / "model.sig"), "--private_key", str(private)],
        ):
            subprocess.run(command, check=True, capture_output=True)
        self.assertIn("does not trust", self.refused("import", "signed", str(folder)))
        self.node.cli("signing-key", "trust", "data-team", str(public))
        self.node.cli("import", "signed", str(folder))
        self.assertEqual(self.provenance("signed")["imported"]["signer"], "data-team")
        (folder / "conda.yaml").write_text("name: other\n")
        self.assertIn("conda.yaml", self.refused("import", "signed", str(folder)))

    def test_other_flavours_are_refused_by_name(self) -> None:
        self.assertIn("sklearn", self.refused("import", "x", str(self.saved("other", flavour="sklearn")), "--unsigned"))
        empty = self.folder / "nothing"
        empty.mkdir()
        self.assertIn("MLmodel", self.refused("import", "x", str(empty), "--unsigned"))


