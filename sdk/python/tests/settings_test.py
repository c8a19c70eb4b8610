"""Where the node is: found as the command line finds it."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import sdk_case  # noqa: F401
from mayfly import InvalidArgument
from mayfly._settings import Address, find_settings


class SettingsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def url(self, given: str | None = None, **environment: str) -> str:
        nowhere = {"XDG_CONFIG_HOME": str(self.folder)}
        return find_settings(given, environment={**nowhere, **environment}).url

    def configured(self, text: str) -> str:
        path = self.folder / "node.toml"
        path.write_text(text)
        return str(path)

    def test_what_is_given_goes_before_the_environment_and_that_before_the_file(self) -> None:
        file = self.configured('[server]\nlisten = "127.0.0.1:9000"\n')
        self.assertEqual(self.url(), "http://127.0.0.1:8080")
        self.assertEqual(self.url(MAYFLY_CONFIG=file), "http://127.0.0.1:9000")
        there = {"MAYFLY_CONFIG": file, "MAYFLY_URL": "http://a"}
        self.assertEqual(self.url(**there), "http://a")
        self.assertEqual(self.url("http://b", **there), "http://b")

    def test_a_file_tells_of_tls_and_socket_files(self) -> None:
        tls = self.configured('[server]\nlisten = "n:1"\ntls_certificate = "c.pem"\n')
        self.assertEqual(self.url(MAYFLY_CONFIG=tls), "https://n:1")
        socket = self.configured('[server]\nlisten = "unix:/run/mayfly"\n')
        self.assertEqual(self.url(MAYFLY_CONFIG=socket), "unix:/run/mayfly")
        (self.folder / "mayfly").mkdir()
        (self.folder / "mayfly" / "mayfly.toml").write_text('[server]\nlisten = "x:2"\n')
        self.assertEqual(self.url(), "http://x:2")

    def test_what_is_no_url_of_a_node_is_refused(self) -> None:
        for url in (
            "localhost:8080",
            "ftp://a",
            "http://",
            "http://a/b",
            "unix:relative",
            "http://a:b",
        ):
            with self.subTest(url), self.assertRaises(InvalidArgument):
                self.url(url)

    def test_addresses_have_their_usual_ports(self) -> None:
        self.assertEqual(Address.parse("https://n"), Address("n", 443, tls=True))
        self.assertEqual(Address.parse("http://[::1]:81").authority, "[::1]:81")

    def test_a_key_is_one_line_and_is_never_shown(self) -> None:
        settings = find_settings("http://a", key="mayfly_secret\n", environment={})
        self.assertEqual(settings.key, "mayfly_secret")
        self.assertNotIn("secret", repr(settings))
        with self.assertRaises(InvalidArgument):
            find_settings("http://a", key="two\nlines", environment={})


if __name__ == "__main__":
    unittest.main()
