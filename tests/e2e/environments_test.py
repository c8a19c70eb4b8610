"""Environment templates: what functions with the same packages share before any of them is loaded, and what they do not."""

from __future__ import annotations

import concurrent.futures
import io
import os
import shutil
import signal
import tempfile
import textwrap
import zipfile
from pathlib import Path

from node import Node
from python_test import PythonCase

# A package that remembers: when it was imported, what it saw then, and what a function leaves in it.
PACKAGE = """
    import os, time
    imported = time.monotonic_ns()
    mode = os.environ.get("MODE", "none")
    left_behind = None
"""
WHEEL = "remembering-1.0-py3-none-any.whl"


def wheel() -> bytes:
    content = {
        "remembering/__init__.py": textwrap.dedent(PACKAGE),
        "remembering-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: remembering\nVersion: 1.0\n",
        "remembering-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "remembering-1.0.dist-info/RECORD": "",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return packed.getvalue()


PACKAGES = {f"wheels/{WHEEL}": wheel(), "requirements.txt": "remembering\n"}

TELLS = """
    import remembering
    def load(ctx):
        before = remembering.left_behind
        remembering.left_behind = ctx.parameters["name"]
        return before
    def predict(inputs, state, ctx):
        return {"found": state, "own": remembering.left_behind, "mode": remembering.mode,
                "name": ctx.parameters["name"]}
"""

# What a function might try against its jail; each must fail in the same way however it was started.
TRIES = """
    import ctypes, os, socket, subprocess
    import remembering
    libc = ctypes.CDLL(None, use_errno=True)
    def tried(what):
        try:
            what()
        except Exception as error:
            return type(error).__name__
        return "allowed"
    def called(*arguments):
        ctypes.set_errno(0)
        return "allowed" if libc.syscall(*arguments) == 0 else os.strerror(ctypes.get_errno())
    def told(what):
        try:
            return what()
        except OSError as error:
            return type(error).__name__
    def listed(path):
        return told(lambda: sorted(os.listdir(path)))
    def predict(inputs, state, ctx):
        return {
            "umount artifact": called(166, b"/artifact", 2),
            "umount given": called(166, b"/given/artifact", 2),
            "mount": called(165, b"none", b"/tmp", b"tmpfs", 0, None),
            "unshare": called(272, 0x10000000),
            "setns": called(308, 0, 0),
            "open_tree": called(428, -100, b"/artifact", 1),
            "ptrace": called(101, 16, 1, 0, 0),
            "write into artifact": tried(lambda: open("/artifact/function/new.py", "w")),
            "write own file": tried(lambda: open(ctx.path("function.py"), "w")),
            "remove own file": tried(lambda: os.unlink(ctx.path("function.py"))),
            "write into given": tried(lambda: open("/given/new", "w")),
            "replace artifact": tried(lambda: os.rename("/artifact", "/tmp/artifact")),
            "write at root": tried(lambda: open("/new", "w")),
            "write environment": tried(lambda: open("/environment/remembering/new.py", "w")),
            "passwd": tried(lambda: open("/etc/passwd")),
            "init's files": tried(lambda: os.listdir("/proc/1/root")),
            "own fds": tried(lambda: os.listdir("/proc/self/fd")),
            "network": tried(lambda: socket.create_connection(("127.0.0.1", inputs["port"]), 2)),
            "program": tried(lambda: subprocess.run(["/bin/true"])),
            "fork": tried(os.fork),
            "kill": tried(lambda: os.kill(1, 9)),
            "other ids": tried(lambda: os.setuid(0)),
            "ids": told(lambda: [os.getuid(), os.getgid()]),
            "secrets": listed("/secrets"),
            "artifact": listed("/artifact"),
            "environment": sorted(os.environ),
            "scratch": open("/tmp/x", "w").write("ok"),
        }
"""
EXPECTED = ("scratch", "ids", "secrets", "artifact", "environment")


class EnvironmentCase(PythonCase):
    """A node for each test: what one started another would find."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="mayfly-e2e-files-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)

    def setUp(self) -> None:
        self.node = Node(*self.arguments)
        self.addCleanup(self.node.close)  # raises for whatever the node leaves behind

    def deploy_named(self, name: str, code: str = TELLS, settings: str = "", **files: str) -> None:
        text = settings + f'\n[parameters]\nname = "{name}"\n'
        self.deploy(name, code, {**PACKAGES, "mayfly.toml": text, **files})

    def waiting(self) -> int:
        text = self.node.request("GET", "/metrics").body.decode()
        line = next(l for l in text.splitlines() if l.startswith("mayfly_environment_templates{quantity=\"ready\"}"))
        return int(float(line.split()[-1]))

    def wait_for_environment(self, count: int = 1) -> None:
        self.node.wait_until(lambda: self.waiting() == count, f"{count} environment templates wait")

    def next_start(self, name: str) -> str:
        return self.node.cli_json("describe", name)["next_start"]

    def waiting_process(self) -> int:
        """The process that waits: the first child of jail init, in a group named for its environment."""
        for pid, _ in sorted(self.node.processes(), reverse=True):
            groups = Path(f"/proc/{pid}/cgroup").read_text()
            if "/environment_" in groups and "i-" not in groups.rsplit("/", 1)[-1]:
                return pid
        raise AssertionError("no environment template has a process")


class EnvironmentsTest(EnvironmentCase):
    def test_the_second_function_of_an_environment_finds_its_packages_imported(self) -> None:
        self.deploy_named("one")
        self.deploy_named("two")
        self.assertEqual(self.next_start("one"), "cold")
        first = self.call("one", {})
        self.assertServed(first)
        self.assertEqual(first.tier, "cold")
        self.wait_for_environment()
        self.assertEqual(self.next_start("two"), "environment")
        second = self.call("two", {})
        self.assertServed(second)
        self.assertEqual(second.tier, "environment")
        # What one left in a module that both have imported is not there in two.
        self.assertEqual(first.json(), {"found": None, "own": "one", "mode": "none", "name": "one"})
        self.assertEqual(second.json(), {"found": None, "own": "two", "mode": "none", "name": "two"})
        self.assertEqual(self.call("two", {}).tier, "hot")
        self.assertEqual(self.next_start("two"), "hot")
        self.wait_for_environment()

        self.node.cli("evict", "one")
        again = self.call("one", {})
        self.assertEqual((again.tier, again.json()["found"]), ("environment", None))
        (billed,) = self.node.cli_json("usage", "--function", "one")["rows"]
        self.assertEqual((billed["requests"], billed["starts"]["cold"]), (2, 2))

    def test_secrets_of_one_are_not_seen_by_another(self) -> None:
        code = """
            import os, remembering
            def load(ctx):
                return ctx.secret(ctx.parameters["knows"])
            def predict(inputs, state, ctx):
                return {"value": state, "there": sorted(os.listdir("/secrets"))}
        """
        for name in ("FIRST", "SECOND"):
            self.node.cli("secret", "set", name, stdin=f"the value of {name}".encode())
            self.deploy(
                f"knows-{name.lower()}", code,
                {**PACKAGES, "mayfly.toml": f'secrets = ["{name}"]\n[parameters]\nknows = "{name}"\n'},
            )
        self.call("knows-first", {})
        self.wait_for_environment()
        for name in ("SECOND", "FIRST"):
            self.node.cli("evict", f"knows-{name.lower()}")
            self.wait_for_environment()
            reply = self.call(f"knows-{name.lower()}", {})
            self.assertServed(reply)
            self.assertEqual(reply.tier, "environment")
            self.assertEqual(reply.json(), {"value": f"the value of {name}", "there": [name]})
        self.node.cli("secret", "set", "FIRST", stdin=b"another")
        changed = self.call("knows-first", {})
        self.assertEqual(changed.json()["value"], "another")

    def test_its_jail_holds_as_any_other(self) -> None:
        port = {"port": self.node.port}
        self.deploy("tries", TRIES, PACKAGES)
        cold = self.call("tries", port)
        self.assertServed(cold)
        self.assertEqual(cold.tier, "cold")
        self.wait_for_environment()
        self.node.cli("evict", "tries")
        given = self.call("tries", port)
        self.assertServed(given)
        self.assertEqual(given.tier, "environment")
        for what, outcome in given.json().items():
            if what not in EXPECTED:
                self.assertNotEqual(outcome, "allowed", what)
        outcomes = (cold.json(), given.json())
        # /given is there in one of them only, /secrets and its emptiness too.
        for outcome in outcomes:
            for differs in ("umount given", "write into given", "secrets"):
                outcome.pop(differs)
        self.assertEqual(*outcomes)

    def test_variables_and_own_modules_are_the_functions_own(self) -> None:
        self.deploy_named("plain")
        self.call("plain", {})
        self.wait_for_environment()
        self.deploy_named("fast", settings='[env]\nMODE = "fast"')
        fast = self.call("fast", {})
        self.assertEqual((fast.tier, fast.json()["mode"]), ("cold", "fast"))
        # A module of the function's own wins over one that others have had imported.
        own = """
            import remembering
            def predict(inputs, state, ctx):
                return {"mode": remembering.mode}
        """
        self.deploy("owns", own, {**PACKAGES, "remembering.py": "mode = 'own'\n"})
        self.wait_for_environment(2)
        owns = self.call("owns", {})
        self.assertServed(owns)
        self.assertEqual((owns.tier, owns.json()["mode"]), ("cold", "own"))

    def test_a_template_that_was_killed_costs_the_next_call_its_time_only(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("its control group is how this test knows it")
        self.deploy_named("survivor")
        self.call("survivor", {})
        self.wait_for_environment()
        os.kill(self.waiting_process(), signal.SIGKILL)
        self.wait_for_environment(0)
        self.node.cli("evict", "survivor")
        reply = self.call("survivor", {})
        self.assertServed(reply)
        self.assertEqual(reply.tier, "cold")
        self.wait_for_environment()

    def test_three_first_calls_at_once_are_all_answered(self) -> None:
        names = ["red", "green", "blue"]
        for name in names:
            self.deploy_named(name)
        self.deploy_named("zero")
        self.call("zero", {})
        self.wait_for_environment()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            replies = dict(zip(names, pool.map(lambda name: self.call(name, {}), names)))
        for name, reply in replies.items():
            self.assertServed(reply)
            self.assertEqual(reply.json(), {"found": None, "own": name, "mode": "none", "name": name})
        self.assertEqual(sorted(reply.tier for reply in replies.values()), ["cold", "cold", "environment"])
        self.wait_for_environment()

    def test_code_that_fails_is_told_as_ever(self) -> None:
        self.deploy_named("good")
        self.call("good", {})
        self.wait_for_environment()
        fails = """
            import os, remembering
            def load(ctx):
                if not os.path.exists("/work"):
                    raise RuntimeError("only a deploy works")
            def predict(inputs, state, ctx):
                return 1
        """
        self.deploy("bad", fails, PACKAGES)
        self.assertRefused(self.call("bad", {}), 503, "start_failed", "only a deploy works")

    def test_it_ends_with_the_last_function_of_its_environment(self) -> None:
        self.deploy_named("last")
        self.call("last", {})
        self.wait_for_environment()
        self.node.cli("delete", "last", "--yes")
        self.wait_for_environment(0)


class WithoutEnvironmentsTest(EnvironmentCase):
    arguments = ("--index-url", "off", "--environment-templates", "none")

    def test_a_node_may_have_none(self) -> None:
        self.deploy_named("one")
        self.call("one", {})
        self.node.cli("evict", "one")
        self.assertEqual(self.next_start("one"), "cold")
        self.assertEqual(self.call("one", {}).tier, "cold")
        self.assertEqual(self.waiting(), 0)
