"""Python functions: from `mayfly init` to a reply, what goes wrong on the way, and what a jail keeps from them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from case import NodeCase
from node import ROOT, Node

WHEELS = ROOT / "build" / "wheels"
NUMPY = "numpy==2.2.6"


def numpy_wheels() -> list[Path]:
    """The wheel that typed functions of these tests are deployed with, fetched once."""
    if not list(WHEELS.glob("numpy-*.whl")):
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
             "--python-version", "3.11", "-d", str(WHEELS), NUMPY],
            check=True,
        )
    return list(WHEELS.glob("numpy-*.whl"))


def text_of(output: bytes | str) -> str:
    return output if isinstance(output, str) else output.decode()


class PythonCase(NodeCase):
    arguments = ("--index-url", "off")

    def folder_of(self, name: str, code: str, files: dict[str, str | bytes] | None = None) -> Path:
        folder = self.folder / name
        folder.mkdir()
        (folder / "function.py").write_text(textwrap.dedent(code))
        for path, content in (files or {}).items():
            (folder / path).parent.mkdir(exist_ok=True)
            data = content.encode() if isinstance(content, str) else content
            (folder / path).write_bytes(data)
        return folder

    def deploy(self, name: str, code: str, files: dict[str, str | bytes] | None = None, *options: str):
        folder = self.folder_of(name, code, files)
        return text_of(self.node.cli("deploy", name, str(folder), *options).stdout)

    def refuse(self, name: str, code: str, files: dict[str, str | bytes] | None = None, *options: str) -> str:
        folder = self.folder_of(name, code, files)
        done = self.node.cli("deploy", name, str(folder), *options, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return text_of(done.stderr)

    def call(self, name: str, value, content_type: str = "application/json", headers: dict | None = None):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.node.request(
            "POST", f"/functions/{name}", body, {"Content-Type": content_type, **(headers or {})}
        )

    def logs(self, name: str) -> str:
        return text_of(self.node.cli("logs", name).stdout)


class PythonFunctionsTest(PythonCase):
    def test_what_init_writes_is_deployed_and_answers(self) -> None:
        folder = self.folder / "payments"
        self.node.cli("init", str(folder))
        self.node.cli("deploy", "payments", str(folder))
        reply = self.call("payments", json.loads((folder / "example.json").read_text()))
        self.assertServed(reply)
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        self.assertEqual(reply.json(), {"fraud": True, "probability": 0.7858})
        again = self.node.cli("init", str(folder), check=False)
        self.assertEqual(again.returncode, 4)

    def test_json_bytes_and_text_go_in_and_out_as_they_are(self) -> None:
        self.deploy(
            "echo",
            """
            def predict(inputs, state, ctx):
                if "body" in inputs:
                    return inputs["body"][::-1], "image/x-mirror"
                if inputs.get("as") == "bytes":
                    return b"raw"
                return {"got": inputs, "type": ctx.content_type}
            """,
        )
        value = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
        self.assertEqual(
            self.call("echo", value).json(), {"got": value, "type": "application/json"}
        )
        large = bytes(range(256)) * 4096  # 1 MiB: not through the instance's own region
        mirrored = self.call("echo", large, "application/octet-stream")
        self.assertServed(mirrored)
        self.assertEqual(mirrored.body, large[::-1])
        self.assertEqual(mirrored.headers["Content-Type"], "image/x-mirror")
        self.assertEqual(mirrored.headers["Content-Security-Policy"], "sandbox")
        raw = self.call("echo", {"as": "bytes"})
        self.assertEqual((raw.body, raw.headers["Content-Type"]), (b"raw", "application/octet-stream"))
        self.assertEqual(self.call("echo", b"").json()["got"], {})

    def test_the_protocol_carries_documents_too(self) -> None:
        self.deploy("double", "def predict(inputs, state, ctx):\n    return inputs['x'] * 2\n")
        reply = self.node.request(
            "POST",
            "/v2/models/double/infer",
            json.dumps(
                {
                    "inputs": [
                        {"name": "body", "datatype": "BYTES", "shape": [1], "data": ['{"x": 21}']},
                        {"name": "content_type", "datatype": "BYTES", "shape": [1],
                         "data": ["application/json"]},
                    ]
                }
            ).encode(),
        )
        self.assertServed(reply)
        self.assertEqual(reply.output("body"), ["42"])

    def test_load_runs_once_and_files_and_parameters_are_there(self) -> None:
        self.deploy(
            "stateful",
            """
            import os, time
            def load(ctx):
                with open(ctx.path("data/table.txt")) as file:
                    return {"table": file.read(), "loaded": time.monotonic_ns()}
            def predict(inputs, state, ctx):
                return {"table": state["table"], "loaded": state["loaded"], "mode": os.environ["MODE"],
                        "all": ctx.parameters, "left": ctx.remaining(), "id": ctx.invocation_id}
            """,
            {
                "data/table.txt": "seven",
                "mayfly.toml": 'timeout = "7s"\n[env]\nMODE = "fast"\n[parameters]\nlimit = 0.25\n',
            },
            "--set",
            "isolation=request",
        )
        first, second = self.call("stateful", {}), self.call("stateful", {})
        self.assertServed(first)
        answer = first.json()
        self.assertEqual((answer["table"], answer["mode"], answer["all"]), ("seven", "fast", {"limit": 0.25}))
        self.assertTrue(0 < answer["left"] <= 7, answer)
        self.assertEqual(answer["id"], first.headers["Mayfly-Invocation"])
        # Two processes, one load: what the template loaded they share.
        self.assertEqual(second.tier, "template")
        self.assertEqual(second.json()["loaded"], answer["loaded"])

    def test_an_exception_is_500_with_its_words_and_its_traceback_in_the_logs(self) -> None:
        self.deploy(
            "faulty",
            """
            def helper(x):
                raise KeyError("no such " + x)
            def predict(inputs, state, ctx):
                return helper(inputs["what"])
            """,
        )
        reply = self.call("faulty", {"what": "thing"})
        self.assertRefused(reply, 500, "function_error", "KeyError: 'no such thing'")
        self.assertNotIn("function.py", reply.json()["error"])
        logs = self.logs("faulty")
        self.assertIn("in helper", logs)
        self.assertIn("KeyError: 'no such thing'", logs)
        self.assertNotIn("mayfly_runtime", logs)
        self.assertRefused(self.call("faulty", b"{oops"), 400, "invalid_input", "the body is no JSON")
        # The instance survives what its code throws.
        self.assertEqual(self.call("faulty", {"what": "x"}).tier, "hot")

    def test_who_may_read_the_logs_gets_the_functions_own_lines_with_the_error(self) -> None:
        self.deploy(
            "deep",
            """
            import json
            from parts import inner
            def predict(inputs, state, ctx):
                if "text" in inputs:
                    return json.loads(inputs["text"])
                if "depth" in inputs:
                    return predict({"depth": inputs["depth"] - 1}, state, ctx) if inputs["depth"] else 1 / 0
                try:
                    inner.fail()
                except ValueError as error:
                    raise KeyError("wrapped") from error
            def run(inputs, ctx):
                pass
            """,
            {"parts/__init__.py": "", "parts/inner.py": "def fail():\n    raise ValueError('in\x1eside')\n"},
        )
        reply = self.call("deep", {})
        self.assertRefused(reply, 500, "function_error", "KeyError: 'wrapped'")
        self.assertEqual(
            reply.json()["traceback"],
            [
                "Traceback (most recent call last):",
                '  File "function.py", line 10, in predict',
                "    inner.fail()",
                '  File "parts/inner.py", line 2, in fail',
                "    raise ValueError('in?side')",
                "ValueError: in?side",
                "",
                "The above exception was the direct cause of the following exception:",
                "",
                "Traceback (most recent call last):",
                '  File "function.py", line 12, in predict',
                '    raise KeyError("wrapped") from error',
                "KeyError: 'wrapped'",
            ],
        )
        # Not those of libraries, and bounded: the end of it.
        library = self.call("deep", {"text": "{"}).json()
        self.assertIn("JSONDecodeError", library["error"])
        self.assertNotIn("decoder.py", "\n".join(library["traceback"]))
        long = self.call("deep", {"depth": 5000}).json()
        self.assertLessEqual(len("\n".join(long["traceback"])), 16 * 1024)
        self.assertTrue(long["traceback"][-1].startswith("RecursionError"), long["traceback"][-1])
        # The command line prints them; other errors have none.
        failed = self.node.cli("invoke", "deep", "-d", "{}", check=False)
        self.assertIn('File "parts/inner.py", line 2, in fail', text_of(failed.stderr))
        self.assertNotIn("traceback", self.call("deep", b"{oops").json())
        # What is kept of an event has none.
        self.node.configure("deep", max_attempts=1)
        place = self.call("deep", {}, headers={"Prefer": "respond-async"}).headers["Location"]
        self.node.wait_until(
            lambda: self.node.request("GET", place).status != 202, "the event's end"
        )
        self.assertIn("KeyError", text_of(self.node.request("GET", place + "/state").body))
        self.assertNotIn("traceback", text_of(self.node.request("GET", place + "/state").body))
        self.assertNotIn("traceback", text_of(self.node.request("GET", place).body))

    def test_what_cannot_be_said_in_json_is_an_error_that_says_so(self) -> None:
        self.deploy("nan", "def predict(inputs, state, ctx):\n    return {'x': float('nan')}\n")
        self.assertRefused(self.call("nan", {}), 500, "function_error", "JSON")

    def test_a_deploy_fails_with_the_words_of_the_code(self) -> None:
        cases = {
            "missing-module": ("import nothing_here\n", "No module named 'nothing_here'"),
            "no-predict": ("x = 1\n", "has no function predict(inputs, state, ctx)"),
            "two-arguments": ("def predict(inputs, state):\n    pass\n", "three arguments"),
            "async": ("async def predict(inputs, state, ctx):\n    pass\n", "async"),
            "syntax": ("def predict(:\n", "SyntaxError"),
            "crash": ("import os\nos.abort()\n", "crashed"),
            "exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
            "load": (
                "def load(ctx):\n    return open(ctx.path('gone.bin'))\n"
                "def predict(inputs, state, ctx):\n    pass\n",
                "'gone.bin' was not deployed with the function",
            ),
        }
        for name, (code, words) in cases.items():
            with self.subTest(name):
                self.assertIn(words, self.refuse(name, code))
        failing = "def predict(inputs, state, ctx):\n    return 1 / inputs['x']\n"
        said = self.refuse("example", failing, {"example.json": '{"x": 0}'})
        self.assertIn("the example fails: ZeroDivisionError", said)
        good = "def predict(inputs, state, ctx):\n    return 1\n"
        said = self.refuse("env", good, {"mayfly.toml": '[env]\nLD_PRELOAD = "x"\n'})
        self.assertIn("LD_* is the platform's", said)
        said = self.refuse("types", good, {"mayfly.toml": '[inputs]\nx = "FP33[1]"\n'})
        self.assertIn("'x' must be a datatype", said)
        said = self.refuse("slow", "import time\ntime.sleep(60)\n", None, "--set", "publish_timeout=2s")
        self.assertIn("publish_timeout = 2s", said)
        self.assertEqual(self.node.request("GET", "/v2/models/slow").status, 404)

    def test_limits_are_named_and_cost_only_their_request(self) -> None:
        self.deploy(
            "greedy",
            """
            import time
            def predict(inputs, state, ctx):
                if "sleep" in inputs:
                    time.sleep(inputs["sleep"])
                return len(bytearray(inputs.get("bytes", 0)))
            """,
            None,
            "--set",
            "memory=64MiB",
            "--set",
            "timeout=2s",
        )
        self.assertRefused(self.call("greedy", {"bytes": 1 << 30}), 500, "out_of_memory")
        self.assertRefused(self.call("greedy", {"sleep": 30}), 504, "deadline_exceeded")
        self.assertEqual(self.call("greedy", {"bytes": 10}).json(), 10)

    def test_code_that_does_not_survive_a_fork_is_found_and_served_all_the_same(self) -> None:
        code = """
            import queue, threading
            def load(ctx):
                asked, answers = queue.Queue(), queue.Queue()
                def serve():
                    while True:
                        answers.put(asked.get() * 2)
                threading.Thread(target=serve, daemon=True).start()
                return asked, answers
            def predict(inputs, state, ctx):
                asked, answers = state
                asked.put(inputs["x"])
                return answers.get(timeout=3)
            """
        deployed = self.deploy("threads", code, {"example.json": '{"x": 1}'})
        self.assertIn("does not survive a fork", deployed)
        self.assertEqual(self.call("threads", {"x": 21}).json(), 42)

    def test_a_version_that_throws_is_rolled_back(self) -> None:
        self.deploy("climber", "def predict(inputs, state, ctx):\n    return inputs\n")
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps({"min_samples": 20, "min_time": "200ms", "steps": [50, 100]}))
        self.deploy(
            "climber-next",
            "def predict(inputs, state, ctx):\n    raise RuntimeError('no')\n",
        )
        self.node.cli("deploy", "climber", str(self.folder / "climber-next"), "--rollout", str(plan))

        def ended() -> bool:
            for x in range(20):
                self.call("climber", x)
            return self.node.cli_json("rollout", "climber")["state"] == "none"

        self.node.wait_until(ended, "the rollout ends")
        last = self.node.cli_json("rollout", "climber")["decisions"][0]["change"]
        self.assertEqual(last["what"], "rollback")
        self.assertIn("errors", last["why"])
        self.assertEqual(self.node.cli_json("traffic", "climber")["champion"], 1)

    def test_a_function_sees_nothing_of_the_machine(self) -> None:
        self.deploy(
            "curious",
            """
            import os, socket, subprocess
            def refused(what):
                try:
                    what()
                except (OSError, PermissionError) as error:
                    return type(error).__name__
                return "allowed"
            def predict(inputs, state, ctx):
                return {
                    "network": refused(lambda: socket.create_connection(("127.0.0.1", inputs["port"]), 2)),
                    "resolver": refused(lambda: socket.getaddrinfo("example.org", 443)),
                    "passwd": refused(lambda: open("/etc/passwd")),
                    "program": refused(lambda: subprocess.run(["/bin/true"])),
                    "fork": refused(os.fork),
                    "own files": refused(lambda: open(ctx.path("function.py"), "w")),
                    "kill": refused(lambda: os.kill(1, 9)),
                    "scratch": open("/tmp/x", "w").write("ok"),
                    "environment": sorted(os.environ),
                    "root": sorted(os.listdir("/")) if refused(lambda: os.listdir("/")) == "allowed" else [],
                }
            """,
        )
        answer = self.call("curious", {"port": self.node.port}).json()
        for what in ("network", "resolver", "passwd", "program", "fork", "own files", "kill"):
            self.assertNotEqual(answer[what], "allowed", what)
        self.assertEqual(answer["scratch"], 2)
        self.assertNotIn("MAYFLY_DATA", answer["environment"])
        self.assertNotIn("PATH", answer["environment"])

    def test_no_file_outlives_a_request_that_is_isolated(self) -> None:
        code = """
            def predict(inputs, state, ctx):
                try:
                    open("/tmp/left", "w").write("secret")
                except OSError as error:
                    return type(error).__name__
                return "written"
            """
        self.deploy("shared", code)
        self.assertEqual(self.call("shared", {}).json(), "written")
        self.deploy("isolated", code, None, "--set", "isolation=request")
        self.assertNotEqual(self.call("isolated", {}).json(), "written")

    def test_it_is_served_again_after_the_node_was_killed(self) -> None:
        self.deploy("kept", "def predict(inputs, state, ctx):\n    return inputs['x'] + 1\n")
        self.node.kill()
        self.node.start()
        reply = self.call("kept", {"x": 1})
        self.assertServed(reply)
        self.assertEqual((reply.json(), reply.tier), (2, "cold"))

class TracebackScopeTest(PythonCase):
    def test_other_callers_get_type_and_message_alone(self) -> None:
        self.deploy("faulty", "def predict(inputs, state, ctx):\n    yield 1\n    raise KeyError('gone')\n")
        self.deploy("plain", "def predict(inputs, state, ctx):\n    return 1 / 0\n")

        def key(scopes: str) -> dict:
            made = self.node.cli_json("key", "create", "--scope", scopes, "--data", str(self.node.data))
            return {"Authorization": f"Bearer {made['key']}"}

        admin, caller = key("admin"), key("invoke:*")
        other, reader = key("invoke:*,read:faulty"), key("invoke:*,read:*")
        for headers, sees_plain, sees_faulty in (
            (caller, False, False), (other, False, True), (reader, True, True), (admin, None, None)
        ):
            if sees_plain is None:
                self.assertEqual(self.call("plain", {}, headers=headers).status, 403)
                continue
            reply = self.call("plain", {}, headers=headers)
            self.assertRefused(reply, 500, "function_error", "ZeroDivisionError")
            self.assertEqual("traceback" in reply.json(), sees_plain)
            streamed = text_of(self.call("faulty", {}, headers=headers).body)
            self.assertIn("KeyError: 'gone'", streamed)
            self.assertEqual("traceback" in streamed, sees_faulty)


ADD = """
import numpy as np

def predict(inputs: {"a": "FP32[-1,2]", "b": "INT64[-1]"}, state, ctx) -> {"sum": "FP64[-1]", "who": "BYTES[-1]"}:
    total = inputs["a"].sum(axis=1) + inputs["b"]
    return {"sum": total.astype(np.float64), "who": [f"row {i}" for i in range(len(total))]}
"""


class PythonArraysTest(PythonCase):
    """Typed functions, with NumPy from a wheel in their folder: the node asks no index."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.wheels = {f"wheels/{wheel.name}": wheel.read_bytes() for wheel in numpy_wheels()}
        cls.wheels["requirements.txt"] = "numpy\n"

    def test_arrays_go_in_and_out_by_their_types(self) -> None:
        self.deploy("add", ADD, {**self.wheels, "example.json": '{"a": [[1, 2]], "b": [3]}'})
        reply = self.call("add", {"a": [[1, 2], [0.5, 0.25]], "b": [3, 40]})
        self.assertServed(reply)
        self.assertEqual(reply.json(), {"sum": [6.0, 40.75], "who": ["row 0", "row 1"]})
        metadata = self.node.request("GET", "/v2/models/add").json()
        self.assertEqual(metadata["platform"], "python")
        self.assertEqual(
            [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in metadata["inputs"]],
            [("a", "FP32", [-1, 2]), ("b", "INT64", [-1])],
        )
        self.assertRefused(self.call("add", {"a": [[1, 2]]}), 400, "invalid_input", "b")
        rows = 200_000  # beyond an instance's own region, both ways
        a = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        body = a.tobytes() + np.zeros(rows, np.int64).tobytes()
        head = json.dumps(
            {
                "inputs": [
                    {"name": "a", "datatype": "FP32", "shape": [rows, 2],
                     "parameters": {"binary_data_size": rows * 8}},
                    {"name": "b", "datatype": "INT64", "shape": [rows],
                     "parameters": {"binary_data_size": rows * 8}},
                ],
                "outputs": [{"name": "sum", "parameters": {"binary_data": True}}],
            }
        ).encode()
        large = self.node.request(
            "POST", "/v2/models/add/infer", head + body,
            {"Inference-Header-Content-Length": str(len(head))},
        )
        self.assertServed(large)
        start = int(large.headers["Inference-Header-Content-Length"])
        np.testing.assert_allclose(np.frombuffer(large.body[start:], np.float64), a.sum(axis=1))

    def test_wrong_outputs_are_named(self) -> None:
        code = """
            import numpy as np
            def predict(inputs: {"x": "INT64[1]"}, state, ctx) -> {"y": "INT64[-1]"}:
                return [{"y": [1.5]}, {"z": [1]}, {}, [1], {"y": [[1]]}][int(inputs["x"][0])]
            """
        self.deploy("wrong", code, self.wheels)
        words = ("does not become INT64", "'z', which is none of its outputs", "returned no 'y'",
                 "not a dict", "has shape [1, 1]")
        for i, expected in enumerate(words):
            self.assertRefused(self.call("wrong", {"x": [i]}), 500, "function_error", expected)

    def test_types_in_the_settings_and_no_numpy(self) -> None:
        code = "def predict(inputs, state, ctx):\n    return {'y': inputs['x'] * 2}\n"
        types = '[inputs]\nx = "FP32[-1]"\n[outputs]\ny = "FP32[-1]"\n'
        self.assertIn(
            "numpy cannot be imported", self.refuse("bare", code, {"mayfly.toml": types})
        )
        self.deploy("typed", code, {**self.wheels, "mayfly.toml": types})
        self.assertEqual(self.call("typed", {"x": [1, 2]}).json(), {"y": [2.0, 4.0]})
        self.assertIn("numpy==2", text_of(self.node.cli("describe", "typed@1").stdout))

    def test_packages_that_cannot_be_had_fail_the_deploy_with_pips_words(self) -> None:
        code = "def predict(inputs, state, ctx):\n    return 1\n"
        said = self.refuse("absent", code, {"requirements.txt": "no-such-package-here\n"})
        self.assertIn("packages cannot be installed: requirements.txt", said)
        self.assertIn("no-such-package-here", said)

    def test_pyproject_toml_names_the_packages(self) -> None:
        wheels = {path: data for path, data in self.wheels.items() if path != "requirements.txt"}
        example = {"example.json": '{"a": [[1, 2]], "b": [3]}'}

        def project(text: str) -> dict:
            # A build system that, were it run, would fail the deploy.
            return {"pyproject.toml": f"{text}\n[build-system]\nrequires = [\"absent-backend\"]\n"
                                      "build-backend = \"absent\"\n"}

        needs = '[project]\nname = "x"\nversion = "1"\nrequires-python = "{}"\ndependencies = ["numpy>=2,<3"]\n'
        self.deploy("project", ADD, {**wheels, **example, **project(needs.format(">=3.9"))})
        self.assertEqual(self.call("project", {"a": [[1, 2]], "b": [3]}).json()["sum"], [6.0])
        self.assertIn("numpy==2", text_of(self.node.cli("describe", "project@1").stdout))
        plain = "def predict(inputs, state, ctx):\n    return 1\n"
        for index, (files, words) in enumerate((
            (project(needs.format(">=3.12")), "functions run on Python 3.11"),
            (project(needs.format("new")), "no version specifier"),
            ({**project(needs.format(">=3.9")), "requirements.txt": "numpy\n"}, "keep one of them"),
            (project('[project]\ndynamic = ["dependencies"]\n'), "dynamic"),
            (project('[project]\ndependencies = ["-r /etc/passwd"]\n'), "pyproject.toml: dependencies"),
            (project('[project]\ndependencies = ["no-such-package-here"]\n'), "no-such-package-here"),
            (project('[project]\ndependencies = "numpy"\n'), "no list"),
            ({"pyproject.toml": "[project\n"}, "pyproject.toml"),
        )):
            with self.subTest(words):
                self.assertIn(words, self.refuse(f"refused-{index}", plain, {**wheels, **files}))
        # Of tools only: no packages, and requirements.txt beside it counts.
        tools = {"pyproject.toml": "[tool.ruff]\nline-length = 120\n"}
        self.deploy("tools", plain, tools)
        self.assertNotIn("environment", self.node.cli_json("describe", "tools@1"))
        self.assertServed(self.call("tools", {}))
        self.deploy("both", ADD, {**self.wheels, **tools, **example})
        self.assertIn("numpy==2", text_of(self.node.cli("describe", "both@1").stdout))

    def test_an_environment_is_installed_once_and_again_when_it_is_lost(self) -> None:
        self.deploy("first", ADD, self.wheels)
        self.deploy("second", ADD + "\n# another\n", self.wheels)
        environments = [
            entry for entry in (self.node.data / "environments").iterdir()
            if entry.is_dir() and entry.name != "requests"
        ]
        self.assertEqual(len(environments), 1)
        self.node.stop()
        subprocess.run(["rm", "-rf", str(environments[0])], check=True)
        self.node.start()
        reply = self.call("first", {"a": [[1, 2]], "b": [3]})
        self.assertServed(reply)
        self.assertEqual(reply.json()["sum"], [6.0])
        self.assertTrue(environments[0].is_dir())


class PackageIndexTest(PythonCase):
    """Packages from the index that pip is configured with on this machine."""

    arguments = ()

    def test_packages_come_from_the_index_and_are_locked(self) -> None:
        code = """
            import six
            def predict(inputs, state, ctx):
                return six.__version__
            """
        self.deploy("locked", code, {"requirements.txt": "six==1.16.0\n"})
        self.assertEqual(self.call("locked", {}).json(), "1.16.0")
        self.assertIn("six==1.16.0", text_of(self.node.cli("describe", "locked@1").stdout))

    def test_a_host_that_is_not_the_index_is_not_reached(self) -> None:
        code = "def predict(inputs, state, ctx):\n    return 1\n"
        said = self.refuse(
            "elsewhere", code,
            {"requirements.txt": "six @ https://example.org/six-1.16.0-py2.py3-none-any.whl\n"},
        )
        self.assertIn("no host of the package index", said)
