"""Functions that call functions: pipelines and ensembles, what becomes of failures, time, cores and memory."""

from __future__ import annotations

import json
import threading
import time

from node import wait_until
from python_test import PythonCase, numpy_wheels, text_of
from traces_test import CALLER, TRACE, Collector, attributes

ADD = "def predict(inputs, state, ctx):\n    return {'n': inputs['n'] + 1}\n"
# Hands on to the function that its parameter names.
PASS = "def predict(inputs, state, ctx):\n    return ctx.call(ctx.parameters['to'], inputs)\n"
RECURSE = """
def predict(inputs, state, ctx):
    if inputs["n"] == 0:
        return 0
    return 1 + ctx.call("{0}", {{"n": inputs["n"] - 1}})
"""
SLEEP = """
import time
def predict(inputs, state, ctx):
    time.sleep(inputs["s"])
    return ctx.remaining()
"""


def toml(*calls: str, **more: str) -> str:
    lines = [f"calls = {json.dumps(calls)}"] + [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(lines) + "\n"


def passing(to: str, **more: str) -> dict[str, str]:
    return {"mayfly.toml": toml(to, **more) + f'[parameters]\nto = "{to}"\n'}


def with_numpy(settings: str) -> dict[str, str | bytes]:
    wheels = {f"wheels/{wheel.name}": wheel.read_bytes() for wheel in numpy_wheels()}
    return {"mayfly.toml": settings, "requirements.txt": "numpy\n", **wheels}


class CallsCase(PythonCase):
    def rows(self, name: str) -> list[dict]:
        return self.node.cli_json("usage", "--function", name)["rows"]

    def waited(self, name: str) -> float:
        return sum(row["waited_us"] for row in self.rows(name)) / 1e6


class CallsTest(CallsCase):
    functions = {"iris": "iris", "adder": "adder"}

    def test_a_chain_of_three_has_three_records_and_is_metered_while_it_waits(self) -> None:
        self.deploy("last", SLEEP)
        self.deploy("middle", PASS, passing("last"))
        self.deploy("first", PASS, passing("middle"))
        reply = self.call("first", {"s": 0.3}, headers={"X-Request-Id": "chain-1"})
        self.assertServed(reply)
        for name in ("first", "middle", "last"):
            self.assertEqual(self.node.usage(name)["requests"], 1)
        self.assertEqual(self.waited("last"), 0)
        self.assertGreaterEqual(self.waited("middle"), 0.3)
        self.assertGreaterEqual(self.waited("first"), self.waited("middle"))
        self.assertLess(self.node.usage("first")["cpu_seconds"], 0.25)
        self.assertEqual(self.node.cli_json("describe", "first")["options"]["calls"], ["middle"])
        self.assertRegex(text_of(self.node.cli("describe", "first").stdout), r'calls +\["middle"\]')

    def test_json_bytes_and_values_go_and_come_as_over_http(self) -> None:
        self.deploy("mirror", """
            def predict(inputs, state, ctx):
                if "body" in inputs:
                    return inputs["body"][::-1], ctx.content_type
                return inputs
            """)
        self.deploy("through", """
            def predict(inputs, state, ctx):
                if inputs["as"] == "bytes":
                    return ctx.call("mirror", b"abc")
                if inputs["as"] == "image":
                    return ctx.call("mirror", (b"abc", "image/x-raw"))
                if inputs["as"] == "large":
                    back = ctx.call("mirror", bytes(3 << 20) + b"end")
                    return [len(back), back[:3].decode()]
                return ctx.call("mirror", inputs["value"])
            """, {"mayfly.toml": toml("mirror")})
        for value in ({"a": [1, None, "ü"]}, {}, {"x": {"y": True}}):
            self.assertEqual(self.call("through", {"as": "json", "value": value}).json(), value)
        self.assertEqual(self.call("through", {"as": "bytes"}).body, b"cba")
        self.assertEqual(self.call("through", {"as": "image"}).body, b"cba")
        self.assertEqual(self.call("through", {"as": "large"}).json(), [(3 << 20) + 3, "dne"])

    def test_an_ensemble_of_two_models_takes_and_gives_arrays(self) -> None:
        self.deploy_typed()
        self.deploy("ensemble", """
            import numpy as np
            def predict(inputs, state, ctx):
                columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
                rows = np.asarray(inputs["rows"], dtype=np.float32)
                iris = ctx.call("iris", {name: rows[:, i].copy() for i, name in enumerate(columns)})
                plain = ctx.call("iris", {name: rows[:, i].tolist() for i, name in enumerate(columns)})
                doubled = ctx.call("typed", {"x": rows[0], "s": np.array(["ü", "b"])})
                return {"same": all((iris[k] == plain[k]).all() for k in iris), "outputs": sorted(iris),
                        "y": doubled["y"], "s": [one.decode() for one in doubled["s"]],
                        "json": ctx.call("echo", {"x": rows}), "writable": doubled["y"].flags.writeable}
            """, with_numpy(toml("iris", "typed", "echo")))
        rows = [[5.1, 3.5, 1.4, 0.25], [7.0, 3.25, 4.75, 1.5]]
        reply = self.call("ensemble", {"rows": rows})
        self.assertServed(reply)
        got = reply.json()
        self.assertTrue(got["same"] and got["writable"])
        metadata = self.node.request("GET", "/v2/models/iris").json()
        self.assertEqual(got["outputs"], sorted(one["name"] for one in metadata["outputs"]))
        self.assertEqual([round(y, 4) for y in got["y"]], [10.2, 7.0, 2.8, 0.5])
        self.assertEqual(got["s"], ["ü!", "b!"])
        self.assertEqual([[round(x, 4) for x in row] for row in got["json"]["x"]], rows)

    def deploy_typed(self) -> None:
        self.deploy("echo", "def predict(inputs, state, ctx):\n    return inputs\n")
        self.deploy("typed", """
            import numpy as np
            def predict(inputs: {"x": "FP32[-1]", "s": "BYTES[-1]"}, state, ctx) -> {"y": "FP32[-1]", "s": "BYTES[-1]"}:
                return {"y": inputs["x"] * 2, "s": np.array([one + b"!" for one in inputs["s"]], dtype=object)}
            """, with_numpy(""))

    def test_wrong_arrays_are_the_callees_refusal(self) -> None:
        self.deploy("wrong", """
            import numpy as np
            def predict(inputs, state, ctx):
                return {k: v.tolist() for k, v in ctx.call("adder", {"nothing": np.zeros(3)}).items()}
            """, with_numpy(toml("adder")))
        self.assertRefused(self.call("wrong", {}), 500, "function_error", "adder: invalid_input")

    def test_a_failure_may_be_caught_and_otherwise_names_the_callee(self) -> None:
        self.deploy("fails", "def predict(inputs, state, ctx):\n    raise ValueError('no luck')\n")
        self.deploy("catches", """
            def predict(inputs, state, ctx):
                try:
                    return ctx.call("fails", inputs)
                except ctx.CallError as error:
                    return [error.function, error.reason, error.status, error.message]
            """, {"mayfly.toml": toml("fails")})
        self.deploy("lets", PASS, passing("fails"))
        function, reason, status, message = self.call("catches", {}).json()
        self.assertEqual((function, reason, status), ("fails", "function_error", 500))
        self.assertIn("ValueError: no luck", message)
        self.assertRefused(self.call("lets", {}), 500, "function_error",
                           "CallError: fails: function_error: ValueError: no luck")

    def test_a_crash_of_the_callee_leaves_its_caller_alive(self) -> None:
        self.deploy("dies", "import os\ndef predict(inputs, state, ctx):\n    os._exit(3)\n")
        self.deploy("survives", """
            import os
            def predict(inputs, state, ctx):
                try:
                    ctx.call("dies", inputs)
                except ctx.CallError as error:
                    return [error.reason, os.getpid()]
            """, {"mayfly.toml": toml("dies")})
        first = self.call("survives", {}).json()
        self.assertEqual(first[0], "instance_crashed")
        self.assertEqual(self.call("survives", {}).json()[1], first[1])

    def test_only_what_calls_names_is_called(self) -> None:
        self.deploy("narrow", "def predict(inputs, state, ctx):\n    return ctx.call('iris', inputs)\n",
                    {"mayfly.toml": toml("adder")})
        self.assertRefused(self.call("narrow", {}), 500, "function_error", 'calls = ["iris"]')
        # Not even by who reaches around the check of his own process.
        self.deploy("sly", "def predict(inputs, state, ctx):\n"
                           "    ctx._calls.names = {'iris'}\n    return ctx.call('iris', inputs)\n",
                    {"mayfly.toml": toml("adder")})
        self.assertRefused(self.call("sly", {}), 500, "function_error", "iris: invalid_input: calls")

    def test_a_deploy_checks_what_is_called(self) -> None:
        code = "def predict(inputs, state, ctx):\n    return 1\n"
        self.assertIn("no function 'nowhere'", self.refuse("d1", code, {"mayfly.toml": toml("nowhere")}))
        self.assertIn("Upper", self.refuse("d2", code, {"mayfly.toml": toml("Upper")}))
        self.assertIn("max_batch", self.refuse("d3", code, {"mayfly.toml": toml("iris", max_batch="8")}))
        self.deploy("itself", code, {"mayfly.toml": toml("itself")})

    def test_a_function_that_others_call_is_deleted_only_on_purpose(self) -> None:
        self.deploy("needed", ADD)
        self.deploy("needs", PASS, passing("needed"))
        done = self.node.cli("delete", "needed", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("called by needs@1", text_of(done.stderr))
        self.node.cli("delete", "needed", "--yes")
        self.assertRefused(self.call("needs", {"n": 1}), 500, "function_error", "needed: unknown_function")

    def test_an_example_is_tried_up_to_the_first_call(self) -> None:
        self.deploy("plus", ADD)
        said = self.deploy("tried", """
            def predict(inputs, state, ctx):
                n = inputs["n"] * 2
                return ctx.call("plus", {"n": n})
            """, {"example.json": '{"n": 1}', "mayfly.toml": toml("plus")})
        self.assertIn("up to the first call", said)
        self.assertEqual(self.call("tried", {"n": 4}).json(), {"n": 9})

    def test_a_call_outside_of_predict_says_where_it_works(self) -> None:
        said = self.refuse("early", "def load(ctx):\n    ctx.call('iris', {})\n"
                                    "def predict(inputs, state, ctx):\n    return 1\n",
                           {"mayfly.toml": toml("iris")})
        self.assertIn("while predict() runs", said)

    def test_calls_go_eight_deep(self) -> None:
        self.deploy("deep", RECURSE.format("deep"), {"mayfly.toml": toml("deep")})
        self.assertEqual(self.call("deep", {"n": 8}).json(), 8)
        self.assertRefused(self.call("deep", {"n": 9}), 500, "function_error", "call_too_deep")

    def test_recursion_with_one_instance_is_refused_at_once(self) -> None:
        self.deploy("single", RECURSE.format("single"), {"mayfly.toml": toml("single")})
        self.node.configure("single", max_instances=1)
        begun = time.monotonic()
        self.assertRefused(self.call("single", {"n": 1}), 500, "function_error", "call_deadlock")
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(self.call("single", {"n": 0}).json(), 0)

    def test_a_callee_has_what_is_left_of_its_callers_time(self) -> None:
        self.deploy("slow", SLEEP)
        self.deploy("hurried", PASS, passing("slow", timeout='"2s"'))
        self.assertLess(self.call("hurried", {"s": 0}).json(), 2)
        begun = time.monotonic()
        self.assertRefused(self.call("hurried", {"s": 20}), 504, "deadline_exceeded")
        self.assertLess(time.monotonic() - begun, 10)
        wait_until(lambda: self.node.running("slow")[0] == 0, "the callee is ended")

    def test_a_client_that_leaves_ends_the_callee(self) -> None:
        self.deploy("long", SLEEP)
        self.deploy("asks", PASS, passing("long"))
        connection = self.node.connect()
        connection.request("POST", "/functions/asks", json.dumps({"s": 25}).encode())
        running = lambda: self.node.cli_json("describe", "long")["processes"]["running"]
        wait_until(lambda: running() == 1, "the callee runs")
        connection.close()
        wait_until(lambda: running() == 0, "the callee is ended")
        wait_until(lambda: self.rows("asks") and self.rows("long"), "both have a record")
        self.assertEqual([row["errors"] for row in self.rows("long")], [1])

    def test_a_generator_calls_between_its_chunks(self) -> None:
        self.deploy("one_more", ADD)
        self.deploy("counts", """
            def predict(inputs, state, ctx):
                n = inputs["n"]
                for _ in range(3):
                    n = ctx.call("one_more", {"n": n})["n"]
                    yield n
            """, {"mayfly.toml": toml("one_more")})
        reply = self.call("counts", {"n": 4}, headers={"Accept": "application/json"})
        self.assertEqual(reply.json(), [5, 6, 7])
        self.deploy("takes", PASS, passing("counts"))
        self.assertRefused(self.call("takes", {"n": 1}), 500, "function_error", "counts: unsupported")

    def test_threads_of_a_function_call_one_after_the_other(self) -> None:
        self.deploy("inc", ADD)
        self.deploy("threads", """
            from concurrent.futures import ThreadPoolExecutor
            def predict(inputs, state, ctx):
                with ThreadPoolExecutor(4) as pool:
                    return [one["n"] for one in pool.map(lambda n: ctx.call("inc", {"n": n}), range(8))]
            """, {"mayfly.toml": toml("inc")})
        self.assertEqual(self.call("threads", {}).json(), list(range(1, 9)))

    def test_an_events_function_calls_too(self) -> None:
        self.deploy("evt_last", ADD)
        self.deploy("evt_first", PASS, passing("evt_last"))
        reply = self.call("evt_first", {"n": 1}, headers={"Prefer": "respond-async"})
        self.assertEqual(reply.status, 202, reply.body)
        path = f"/api/v1/events/{reply.json()['id']}/state"
        wait_until(lambda: self.node.request("GET", path).json()["state"] == "done", "the event is done")
        self.assertEqual(self.node.usage("evt_last")["requests"], 1)


class OneCoreTest(CallsCase):
    arguments = ("--index-url", "off", "--cpus", "1")

    def test_a_chain_of_eight_runs_on_one_core(self) -> None:
        self.deploy("eight", RECURSE.format("eight"), {"mayfly.toml": toml("eight")})
        self.assertEqual(self.call("eight", {"n": 7}).json(), 7)
        self.assertEqual(self.call("eight", {"n": 7}).json(), 7)


class ShortMemoryTest(CallsCase):
    arguments = ("--index-url", "off", "--memory", "250MiB")

    def test_memory_that_only_callers_hold_is_a_deadlock(self) -> None:
        self.deploy("greedy", "held = []\n" + RECURSE.format("greedy").replace(
            "inputs, state, ctx):", "inputs, state, ctx):\n    held[:] = [b'x' * (60 << 20)]"),
            {"mayfly.toml": toml("greedy")})
        self.assertEqual(self.call("greedy", {"n": 0}).json(), 0)  # now its size is known
        begun = time.monotonic()
        reply = self.call("greedy", {"n": 5})
        self.assertLess(time.monotonic() - begun, 20)
        self.assertRefused(reply, 500, "function_error", "call_deadlock")
        self.assertEqual(self.call("greedy", {"n": 1}).json(), 1)


class TracedCallsTest(CallsCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.collector = Collector()
        cls.addClassCleanup(cls.collector.close)
        cls.arguments = ("--index-url", "off", "--trace-endpoint", cls.collector.url)
        super().setUpClass()

    def test_a_callees_span_is_its_callers_child(self) -> None:
        self.deploy("child", ADD)
        self.deploy("parent", PASS, passing("child"))
        reply = self.call("parent", {"n": 1}, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
        self.assertServed(reply)
        named = lambda: {span["name"]: span for span in self.collector.of(TRACE)}
        wait_until(lambda: {"predict parent", "predict child"} <= set(named()), "both spans are there")
        parent, child = named()["predict parent"], named()["predict child"]
        self.assertEqual(parent["parentSpanId"], CALLER)
        self.assertEqual(child["parentSpanId"], parent["spanId"])
        self.assertNotEqual(attributes(child)["mayfly.invocation"], reply.headers["Mayfly-Invocation"])


class KilledTest(CallsCase):
    def test_a_server_that_is_killed_leaves_no_process_of_a_chain(self) -> None:
        self.deploy("sleeps", SLEEP)
        self.deploy("waits", PASS, passing("sleeps"))
        thread = threading.Thread(target=self.ask_in_vain)
        thread.start()
        wait_until(lambda: self.node.cli_json("describe", "sleeps")["processes"]["running"] == 1,
                   "the callee runs")
        self.node.kill()
        thread.join()
        self.node.start()  # raises for what is left, as close() does
        self.assertServed(self.call("waits", {"s": 0}))

    def ask_in_vain(self) -> None:
        try:
            self.call("waits", {"s": 25})
        except OSError:
            pass
        except Exception as error:  # http.client's words for a server that is gone
            assert "Remote" in type(error).__name__ or "Incomplete" in type(error).__name__, error
