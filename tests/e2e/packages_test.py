"""Packages that are more than a wheel: built from their sources, or Debian's. What they bring, what is locked, and what
hostile ones are kept from."""

from __future__ import annotations

import io
import shutil
import tarfile
import textwrap
import zlib

from python_test import PythonCase

SETUP = """
from setuptools import setup
setup(name="{name}", version="1.0", py_modules=["{module}"])
"""


def source_archive(name: str, files: dict[str, str], requires: list[str] | None = None) -> bytes:
    """name-1.0.tar.gz; with `requires`, also a pyproject.toml."""
    files = {path: textwrap.dedent(text) for path, text in files.items()}
    if requires is not None:
        files["pyproject.toml"] = (
            f"[build-system]\nrequires = {requires}\nbuild-backend = 'setuptools.build_meta'\n"
        )
    return archive_of({f"{name}-1.0/{path}": text for path, text in files.items()})


def archive_of(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


BUILD = {"mayfly.toml": "build = true\n"}


class BuiltPackagesTest(PythonCase):
    arguments = ()

    def environments(self) -> set[str]:
        return {path.name for path in (self.node.data / "environments").iterdir() if len(path.name) == 64}

    def test_packages_without_a_wheel_are_built_locked_and_built_again(self) -> None:
        code = """
            import docopt, simplejson
            from simplejson import _speedups
            def predict(inputs, state, ctx):
                return [docopt.__version__, simplejson.__version__, _speedups.__file__]
            """
        packages = {"requirements.txt": "docopt==0.6.2\nsimplejson==3.16.0\n"}
        said = self.refuse("unbuilt", code, packages)
        self.assertIn("build = true in mayfly.toml builds it", said)
        self.deploy("built", code, {**packages, **BUILD})
        expected = ["0.6.2", "3.16.0"]
        reply = self.call("built", {})
        self.assertServed(reply)
        self.assertEqual(reply.json()[:2], expected)
        described = self.node.cli_json("describe", "built@1")["environment"]["lock"]
        self.assertRegex(described, r"simplejson==3\.16\.0 --hash=sha256:[0-9a-f]{64}")
        self.assertRegex(described, r"built: simplejson simplejson-3\.16\.0\.tar\.gz sha256:[0-9a-f]{64}")
        self.assertRegex(described, r"with: setuptools-\S+\.whl sha256:[0-9a-f]{64}")
        # Lost, it is made again from exactly that, and is the same.
        before = self.environments()
        self.node.stop()
        shutil.rmtree(self.node.data / "environments")
        self.node.start()
        again = self.call("built", {})
        self.assertServed(again)
        self.assertEqual(again.json()[:2], expected)
        self.assertEqual(self.environments(), before)

    def test_what_runs_while_it_is_built_reaches_nobody_and_writes_nowhere(self) -> None:
        attack = """
            import os, socket, subprocess
            from setuptools import setup
            found = {}
            def attempt(name, work):
                try:
                    work()
                    found[name] = "done"
                except BaseException as error:
                    found[name] = type(error).__name__
            attempt("socket", lambda: socket.create_connection(("127.0.0.1", PORT), 2))
            attempt("unix", lambda: socket.socket(socket.AF_UNIX))
            attempt("lookup", lambda: socket.getaddrinfo("example.org", 80))
            for place in ("/source/x", "/usr/x", "/pip/x", "/lib/x", "/runtime/x", "/x"):
                attempt(place, lambda: open(place, "w"))
            attempt("passwd", lambda: open("/etc/passwd"))
            attempt("environ", lambda: open("/proc/1/environ"))
            attempt("kill", lambda: subprocess.run(["/bin/sh", "-c", "kill -9 1 || exit 7"], check=True))
            attempt("program", lambda: (open("run", "w").write("#!/bin/sh\\n"), os.chmod("run", 0o755),
                                        subprocess.run(["./run"], check=True)))
            subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"], start_new_session=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            open("attack.py", "w").write(f"FOUND = {found!r}")
            setup(name="mayflytest-attack", version="1.0", py_modules=["attack"])
            """.replace("PORT", str(self.node.port))
        self.deploy(
            "attacked",
            "import attack\ndef predict(inputs, state, ctx):\n    return attack.FOUND\n",
            {"requirements.txt": "mayflytest-attack==1.0\n", **BUILD,
             "wheels/mayflytest-attack-1.0.tar.gz": source_archive("mayflytest-attack", {"setup.py": attack})},
        )
        found = self.call("attacked", {}).json()
        self.assertEqual({name for name, how in found.items() if how == "done"} - {"kill"}, set(), found)
        self.assertEqual(len(found), 13)

    def test_requirements_that_only_the_build_knows_are_fetched_then(self) -> None:
        backend = """
            from setuptools import build_meta
            from setuptools.build_meta import *
            def get_requires_for_build_wheel(settings=None):
                return ["docutils==0.21.2"]
            def build_wheel(folder, settings=None, metadata=None):
                import docutils
                open("late.py", "w").write(f"VERSION = {docutils.__version__!r}")
                return build_meta.build_wheel(folder, settings, metadata)
            """
        sources = {"setup.py": SETUP.format(name="mayflytest-late", module="late"), "late.py": "", "backend.py": backend}
        sources = {path: textwrap.dedent(text) for path, text in sources.items()}
        sources["pyproject.toml"] = (
            "[build-system]\nrequires = ['setuptools>=61']\nbuild-backend = 'backend'\n"
            "backend-path = ['.']\n"
        )
        archive = archive_of({f"mayflytest-late-1.0/{path}": text for path, text in sources.items()})
        self.deploy(
            "late", "import late\ndef predict(inputs, state, ctx):\n    return late.VERSION\n",
            {"requirements.txt": "mayflytest-late==1.0\n", **BUILD, "wheels/mayflytest-late-1.0.tar.gz": archive},
        )
        self.assertEqual(self.call("late", {}).json(), "0.21.2")

    def test_hostile_archives_are_refused_before_they_are_unpacked(self) -> None:
        code = "def predict(inputs, state, ctx):\n    return 1\n"
        bomb = zlib.compressobj(wbits=31)
        head = tarfile.TarInfo("mayflytest-bomb-1.0/zeros")
        head.size = 3 << 30
        packed = bomb.compress(head.tobuf()) + b"".join(bomb.compress(bytes(1 << 20)) for _ in range(2100))
        for name, archive, words in (
            ("up", archive_of({"mayflytest-up-1.0/setup.py": "", "mayflytest-up-1.0/../../../escaped": "x"}), "leads out of it"),
            ("root", archive_of({"mayflytest-root-1.0/setup.py": "", "/tmp/escaped": "x"}), "leads out of it"),
            ("bomb", packed + bomb.flush(), "2 GiB"),
            ("torn", source_archive("mayflytest-torn", {"setup.py": ""})[:40], "cannot be read"),
            ("wrong", archive_of({"mayflytest-wrong-1.0/pyproject.toml": "[build-system]\nrequires = 7\n"}), "wrong-1.0"),
            ("url", source_archive("mayflytest-url", {"setup.py": ""}, ["x @ http://127.0.0.1/x.whl"]), "a URL"),
        ):
            with self.subTest(name):
                said = self.refuse(
                    f"hostile-{name}", code,
                    {"requirements.txt": f"mayflytest-{name}==1.0\n", **BUILD, f"wheels/mayflytest-{name}-1.0.tar.gz": archive},
                )
                self.assertIn(words, said)

    def test_a_build_that_fails_says_why_and_one_without_end_is_ended(self) -> None:
        code = "def predict(inputs, state, ctx):\n    return 1\n"
        fails = source_archive("mayflytest-fails", {"setup.py": "raise RuntimeError('no compiler of mine')\n"})
        said = self.refuse("fails", code, {"requirements.txt": "mayflytest-fails==1.0\n", **BUILD, "wheels/mayflytest-fails-1.0.tar.gz": fails})
        self.assertIn("fails-1.0.tar.gz cannot be built", said)
        self.assertIn("no compiler of mine", said)
        endless = source_archive("mayflytest-endless", {"setup.py": "while True: pass\n"})
        said = self.refuse(
            "endless", code,
            {"requirements.txt": "mayflytest-endless==1.0\n", "wheels/mayflytest-endless-1.0.tar.gz": endless,
             "mayfly.toml": 'build = true\npublish_timeout = "20s"\n'},
        )
        self.assertIn("publish_timeout = 20s", said)
        self.assertIn("Installing build dependencies", said)


class DebianPackagesTest(PythonCase):
    def test_debians_packages_are_added_locked_and_fetched_again(self) -> None:
        code = """
            import simplejson, yaml
            from simplejson import _speedups
            def predict(inputs, state, ctx):
                return [simplejson.__version__, yaml.__with_libyaml__, yaml.CSafeLoader.__name__, yaml.__file__]
            """
        files = {"mayfly.toml": 'debian = ["python3-simplejson", "python3-yaml"]\n'}
        self.deploy("system", code, files)
        reply = self.call("system", {})
        self.assertServed(reply)
        self.assertEqual(reply.json()[1:], [True, "CSafeLoader", "/usr/lib/python3/dist-packages/yaml/__init__.py"])
        described = self.node.cli_json("describe", "system@1")["environment"]["lock"]
        self.assertRegex(described, r"debian: libyaml-0-2 \S+ amd64 sha256:[0-9a-f]{64}")
        self.node.stop()
        shutil.rmtree(self.node.data / "environments")
        self.node.start()
        self.assertEqual(self.call("system", {}).json(), reply.json())

    def test_what_apt_does_not_have_is_said_in_its_words(self) -> None:
        code = "def predict(inputs, state, ctx):\n    return 1\n"
        said = self.refuse("absent", code, {"mayfly.toml": 'debian = ["no-such-package-here"]\n'})
        self.assertIn("Unable to locate package no-such-package-here", said)
        said = self.refuse("old", code, {"mayfly.toml": 'debian = ["python3-simplejson=0.1"]\n'})
        self.assertIn("0.1", said)
        said = self.refuse("shell", code, {"mayfly.toml": 'debian = ["-o=Dir::Etc=/tmp"]\n'})
        self.assertIn("must be a package's name", said)
