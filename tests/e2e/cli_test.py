"""The command line as a shell sees it: exit codes (docs/cli.md), completion, where the node is found."""

from __future__ import annotations

import os
import subprocess

from case import NodeCase
from node import BIN, MODELS, ROOT, free_port


class CommandLineTest(NodeCase):
    functions = {"iris": "iris"}

    def test_exit_codes_are_those_of_the_guide(self) -> None:
        guide = (ROOT / "docs" / "cli.md").read_text()
        nowhere = f"http://127.0.0.1:{free_port()}"
        self.node.example("iris")  # recent traffic
        for code, arguments in [
            (0, ("status",)),
            (2, ("no-such-verb",)),
            (2, ("serve", "--no-such-flag")),
            (2, ("configure", "iris", "no_such_setting=1")),
            (2, ("invoke", "iris", "-d", "{")),
            (2, ("usage", "--since", "banana")),
            (3, ("deploy", "x", "/no/such/model.onnx")),
            (3, ("describe", "nope")),
            (3, ("describe", "iris@99")),
            (4, ("delete", "iris")),
            (6, ("status", "--url", nowhere)),
        ]:
            with self.subTest(" ".join(arguments)):
                done = self.node.cli(*arguments, check=False)
                self.assertEqual(done.returncode, code, done.stderr.decode())
                self.assertEqual(bool(done.stderr), code != 0, done.stderr.decode())
                self.assertIn(f"| {code} |", guide)

    def test_help_is_a_verb_and_an_unknown_verb_is_named(self) -> None:
        self.assertIn("deploy", self.node.cli("help").stdout.decode())
        self.assertIn("--example", self.node.cli("help", "deploy").stdout.decode())
        self.assertIn("--max-bad-rows", self.node.cli("help", "data", "put").stdout.decode())
        for arguments in (("nosuchverb",), ("help", "nosuchverb")):
            done = self.node.cli(*arguments, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn("unknown verb 'nosuchverb'; mayfly help lists", done.stderr.decode())
        self.assertIn("name a verb", self.node.cli(check=False).stderr.decode())

    def test_what_is_no_url_of_a_node_is_said_so(self) -> None:
        for url in ("ftp://localhost:8080", "banana", "unix:not/absolute"):
            done = self.node.cli("status", "--url", url, check=False)
            self.assertEqual(done.returncode, 2, done.stderr.decode())
            self.assertIn("http[s]://HOST[:PORT] or unix:PATH", done.stderr.decode())

    def test_a_quantity_without_its_unit_is_explained(self) -> None:
        done = self.node.cli(
            "deploy", "iris", str(MODELS / "iris"), "--set", "timeout=3", check=False
        )
        self.assertIn("a whole number and a unit, as in 250ms", done.stderr.decode())
        done = self.node.cli("usage", "--since", "banana", check=False)
        self.assertIn("24h", done.stderr.decode())

    def test_history_says_what_each_change_made_of_what(self) -> None:
        self.node.cli("configure", "iris", "idle_timeout=7s", "keep_versions=3")
        history = self.node.cli("history", "iris").stdout.decode()
        self.assertIn("idle_timeout 1m → 7s, keep_versions 0 → 3", history)
        self.assertNotIn("{", history)
        self.assertNotIn("queue_limit", history)

    def test_describe_is_for_people(self) -> None:
        rows = self.node.cli("describe", "iris").stdout.decode()
        self.assertRegex(rows, r"(?m)^  load +[\d.]+ [µm]?s$")
        self.assertRegex(rows, r"(?m)^  artifact +[\d.]+ [kM]?B$")
        self.assertRegex(rows, r"(?m)^FORM +PREPACKED")
        self.assertNotIn("{", rows)
        self.assertNotRegex(rows, r"(?m)^  (model|example) *$")

    def test_bash_completes_verbs_flags_and_functions(self) -> None:
        for line, expected in [
            ("mayfly inv", ["invoke"]),
            ("mayfly invoke ir", ["iris"]),
            ("mayfly --json describe ir", ["iris"]),
            ("mayfly --url http://here inv", ["invoke"]),
            ("mayfly describe ", ["iris"]),
            ("mayfly describe iris ", []),
            ("mayfly configure iris idle", ["idle_timeout="]),
            ("mayfly configure iris keep_warm=true idle", ["idle_timeout="]),
            ("mayfly invoke iris -f /dev/nul", ["/dev/null"]),
            ("mayfly deploy iris /dev/nul", ["/dev/null"]),
            ("mayfly usage --function ir", ["iris"]),
            ("mayfly completion f", ["fish"]),
            ("mayfly gc --dr", ["--dry-run"]),
            ("mayfly gc --js", ["--json"]),
        ]:
            with self.subTest(line):
                self.assertEqual(self.completions(line), expected)

    def test_scripts_for_other_shells_name_every_verb(self) -> None:
        for shell in ("zsh", "fish"):
            script = self.node.cli("completion", shell).stdout.decode()
            for verb in ("serve", "deploy", "invoke", "restore"):
                self.assertIn(verb, script)
        self.assertIn(r"a function\'s settings", script)  # fish: within single quotes

    def test_every_verb_explains_itself(self) -> None:
        guide = (ROOT / "docs" / "cli.md").read_text()
        verbs = self.completions("mayfly ")
        self.assertGreater(len(verbs), 15)
        for verb in verbs:
            self.assertIn("Usage:", self.node.cli(verb, "--help").stdout.decode())
            self.assertIn(f"`{verb}", guide)

    def completions(self, line: str) -> list[str]:
        words = line.split(" ")
        script = (
            f'PATH={BIN}:$PATH; source <(mayfly completion bash)\nCOMP_WORDS=("$@") COMP_CWORD={len(words) - 1}\n'
            'cd /; _mayfly; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-uc", script, "bash", *words],
            capture_output=True,
            check=True,
            env=os.environ | {"MAYFLY_URL": self.node.url},
        )
        return done.stdout.decode().split()
