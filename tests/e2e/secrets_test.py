"""Secrets: in the jail of a version that names them and nowhere else; changed, missing, without their key."""

from __future__ import annotations

import os
import stat
import textwrap
from pathlib import Path

from node import MODELS, Node, variant
from python_test import PythonCase, text_of

PLAIN = "correct-horse-battery-staple-5309"

CODE = """
    import os
    def load(ctx):
        return {"loaded": ctx.secret("API_KEY")}
    def predict(inputs, state, ctx):
        path = ctx.secret_path("API_KEY")
        try:
            open(path, "w")
            written = True
        except OSError:
            written = False
        try:
            other = ctx.secret("OTHER")
        except ValueError as error:
            other = str(error)
        now = ctx.secret("API_KEY")
        return {"length": len(now), "same": now == state["loaded"], "end": now[-4:], "written": written,
                "other": other, "there": sorted(os.listdir("/secrets")), "environment": now in str(os.environ)}
"""
NAMES = {"mayfly.toml": 'secrets = ["API_KEY"]\n', "example.json": "{}"}


def holds(folder: Path, text: str) -> list[str]:
    """The files under a folder in which a text stands."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes():
            found.append(str(path))
    return found


class SecretsTest(PythonCase):
    def set(self, name: str, value: str, *arguments: str) -> None:
        self.node.cli("secret", "set", name, *arguments, stdin=value.encode())

    def listed(self) -> dict[str, dict]:
        return {row["name"]: row for row in self.node.cli_json("secret", "list")["secrets"]}

    def test_a_secret_is_in_the_jail_and_nowhere_on_the_disk(self) -> None:
        self.set("API_KEY", PLAIN + "\n")
        self.set("OTHER", "of nobody")
        self.deploy("knows", CODE, NAMES)
        reply = self.call("knows", {})
        self.assertServed(reply)
        told = reply.json()
        self.assertEqual(
            {key: told[key] for key in ("length", "same", "end", "written", "there", "environment")},
            {"length": len(PLAIN), "same": True, "end": PLAIN[-4:], "written": False,
             "there": ["API_KEY"], "environment": False},
        )
        self.assertIn("no secret 'OTHER' is named", told["other"])
        self.node.cli("backup", str(self.folder / "backup"))
        for folder in (self.node.data, self.folder / "backup"):
            self.assertEqual(holds(folder, PLAIN), [])
        self.assertTrue(holds(self.node.data, "API_KEY"))  # the search finds what is there
        self.assertNotIn(PLAIN, self.node.log.read_text())
        self.assertFalse(holds(self.folder / "backup", "secrets.key"))
        self.assertEqual(list((self.folder / "backup").rglob("secrets.key")), [])
        key = self.node.data / "secrets.key"
        self.assertEqual(stat.S_IMODE(os.stat(key).st_mode), 0o600)
        for shown in (self.node.cli("describe", "knows@1"), self.node.cli("secret", "list"),
                      self.node.cli("history", "knows"), self.node.cli("logs", "knows")):
            self.assertNotIn(PLAIN, text_of(shown.stdout))
        self.assertEqual(self.node.cli_json("describe", "knows@1")["options"]["secrets"], ["API_KEY"])
        self.assertIn("knows@1", self.listed()["API_KEY"]["used_by"])
        refused = self.node.cli("secret", "delete", "API_KEY", check=False)
        self.assertEqual(refused.returncode, 4)
        self.assertIn("knows@1", text_of(refused.stderr))
        self.node.stop()
        self.assertEqual(holds(self.node.data, PLAIN), [])
        self.node.start()
        self.assertServed(self.call("knows", {}))

    def test_a_changed_secret_reaches_new_templates(self) -> None:
        self.set("API_KEY", "first-aaaa")
        self.deploy("changes", CODE, NAMES)
        self.assertEqual(self.call("changes", {}).json()["end"], "aaaa")
        self.assertEqual(self.call("changes", {}).tier, "hot")
        file = self.folder / "value"
        file.write_bytes(b"second-bbbb")
        self.node.cli("secret", "set", "API_KEY", "--from-file", str(file))
        reply = self.call("changes", {})
        self.assertEqual((reply.json()["end"], reply.json()["same"], reply.tier), ("bbbb", True, "cold"))

    def test_a_missing_secret_is_refused_with_how_to_set_it(self) -> None:
        code = textwrap.dedent(CODE).replace("API_KEY", "NEVER_SET")
        options = {"mayfly.toml": 'secrets = ["NEVER_SET"]\n'}
        words = self.refuse("misses", code, options)
        self.assertIn("mayfly secret set NEVER_SET", words)
        self.assertIn("secret_unavailable", words)
        self.set("NEVER_SET", "set after all")
        self.node.cli("deploy", "misses", str(self.folder / "misses"))
        self.assertServed(self.call("misses", {}))
        self.node.cli("secret", "delete", "NEVER_SET", "--yes")
        gone = self.call("misses", {})
        self.assertRefused(gone, 503, "start_failed", "NEVER_SET")
        self.set("NEVER_SET", "again-cccc")
        self.assertEqual(self.call("misses", {}).json()["end"], "cccc")
        again = self.node.cli("deploy", "misses", str(self.folder / "misses"), "--set", "secrets=[1]", check=False)
        self.assertIn("secrets", text_of(again.stderr))

    def test_a_model_has_no_secrets_and_wrong_ones_are_refused(self) -> None:
        model = variant(self.folder, "iris", 'secrets = ["API_KEY"]\n')
        refused = self.node.cli("deploy", "model", str(model), check=False)
        self.assertIn('runtime "python"', text_of(refused.stderr))
        for name, value, code in (("9A", "x", 2), ("A", "", 2), ("A", "x" * 70_000, 2)):
            done = self.node.cli("secret", "set", name, stdin=value.encode(), check=False)
            self.assertEqual(done.returncode, code, done.stderr)
        self.assertRefused(self.node.request("PUT", "/api/v1/secrets/a-b", b"x"), 400, "invalid_setting")
        self.assertRefused(self.node.request("PUT", "/api/v1/secrets/A", b"x" * 65_537), 413, "too_large")
        self.assertEqual(self.node.request("PUT", "/api/v1/secrets/LARGEST", b"x" * 65_536).status, 200)
        self.assertRefused(self.node.request("DELETE", "/api/v1/secrets/NOPE"), 404, "not_found")


class SecretKeyTest(PythonCase):
    def test_a_node_without_its_key_starts_and_says_so(self) -> None:
        self.node.cli("secret", "set", "API_KEY", stdin=PLAIN.encode())
        self.deploy("knows", CODE, NAMES)
        self.node.stop()
        key = self.node.data / "secrets.key"
        held = key.read_bytes()
        for content, words in ((None, "is missing"), (b"short", "must hold 32 bytes"), (b"k" * 32, "another key")):
            with self.subTest(words):
                key.unlink(missing_ok=True)
                if content is not None:
                    key.write_bytes(content)
                    key.chmod(0o600)
                self.node.start()
                self.assertRefused(self.call("knows", {}), 503, "start_failed", words)
                self.assertIn("API_KEY", text_of(self.node.cli("secret", "list").stdout))
                self.node.stop()
        key.write_bytes(held)
        self.node.start()
        self.assertServed(self.call("knows", {}))


class SecretScopesTest(PythonCase):
    def test_secrets_are_a_scope_of_their_own_and_stand_in_the_audit_log(self) -> None:
        def make(scopes: str, *arguments: str) -> str:
            return self.node.cli_json("key", "create", "--scope", scopes, "--data", str(self.node.data), *arguments)["key"]

        def put(key: str, name: str = "API_KEY"):
            return self.node.request("PUT", f"/api/v1/secrets/{name}", PLAIN.encode(), {"Authorization": f"Bearer {key}"})

        def names(key: str) -> list[str]:
            reply = self.node.request("GET", "/api/v1/secrets", headers={"Authorization": f"Bearer {key}"})
            return [row["name"] for row in reply.json()["secrets"]]

        without = make("invoke,read,deploy,configure,admin")
        self.assertRefused(put(without), 403, "missing_scope", "secrets")
        ours, theirs = make("secrets"), make("secrets", "--project", "team")
        self.assertEqual(put(ours).status, 200)
        self.assertEqual((names(ours), names(theirs)), (["API_KEY"], []))
        self.assertEqual(put(theirs, "THEIRS").status, 200)
        self.assertEqual(names(ours), ["API_KEY"])
        entries = self.node.cli_json("audit", "--data", str(self.node.data), "--action", "secret.set")["entries"]
        self.assertEqual([(each["subject"], each["outcome"], each["project"]) for each in reversed(entries)],
                         [("API_KEY", "missing_scope", "default"), ("API_KEY", "ok", "default"), ("THEIRS", "ok", "team")])
        self.assertNotIn(PLAIN, str(entries))
