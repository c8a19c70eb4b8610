"""Jobs: a Python function's run(), slice by slice; checkpoints, limits, cancel, restart, kill -9."""

from __future__ import annotations

import json

from node import Node, wait_until
from python_test import PythonCase, text_of

COUNT = """
    import json, os, time

    def run(inputs, ctx):
        at, folder = 0, ctx.restore()
        if folder:
            at = json.load(open(os.path.join(folder, "state.json")))["at"]
            print("restored at", at)
        state = os.path.join(ctx.scratch, "state")
        os.makedirs(state)
        while at < inputs["until"]:
            at += 1
            time.sleep(inputs.get("pause", 0))
            ctx.progress(at / inputs["until"], f"step {at}")
            ctx.metric("at", at)
            with open(os.path.join(state, "state.json"), "w") as file:
                json.dump({"at": at}, file)
            ctx.checkpoint(state)
        with open(os.path.join(ctx.output, "model.txt"), "w") as file:
            file.write(f"counted to {at}")
        return {"at": at}
"""
OVER = ("done", "failed", "cancelled", "expired")


class JobsCase(PythonCase):
    def submit(self, name: str, inputs: dict, **more) -> str:
        reply = self.node.post_json(f"/api/v1/functions/{name}/jobs",
                                    {"kind": "run", "inputs": inputs, **more})
        self.assertEqual(reply.status, 202, reply.body)
        job = reply.json()
        self.assertEqual(reply.headers["Location"], f"/api/v1/jobs/{job['id']}")
        return job["id"]

    def job(self, job: str, node: Node | None = None) -> dict:
        return (node or self.node).request("GET", f"/api/v1/jobs/{job}").json()

    def ended(self, job: str, node: Node | None = None) -> dict:
        wait_until(lambda: self.job(job, node)["state"] in OVER, "the job ends", 60)
        return self.job(job, node)

    def fails(self, name: str, code: str, inputs: dict | None = None) -> dict:
        self.deploy(name, code)
        job = self.ended(self.submit(name, inputs or {}))
        self.assertEqual(job["state"], "failed", job)
        return job


class RunTest(JobsCase):
    def test_a_run_ends_with_its_result_its_files_and_a_bill(self) -> None:
        self.deploy("count", COUNT)
        folder = self.folder / "made"
        said = text_of(self.node.cli("run", "count", "--data", '{"until": 3}', "--output", str(folder)).stdout)
        self.assertIn('"at": 3', said)
        self.assertEqual((folder / "model.txt").read_text(), "counted to 3")
        job = self.node.cli_json("jobs", "--function", "count")["jobs"][0]
        self.assertEqual((job["state"], job["slices"]), ("done", 3))
        self.assertEqual(self.job(job["id"])["result"], {"at": 3})
        self.assertEqual(job["progress"]["metrics"], {"at": 3.0})
        usage = self.node.usage("count")
        self.assertEqual(usage["requests"], 1)
        self.assertGreater(usage["cpu_seconds"], 0)
        again = self.folder / "again"
        self.node.cli("jobs", "get", job["id"], "--output", str(again))
        self.assertEqual((again / "model.txt").read_text(), "counted to 3")

    def test_a_function_that_only_runs_says_so_when_it_is_asked(self) -> None:
        self.deploy("onlyruns", "def run(inputs, ctx): return inputs")
        self.assertRefused(self.call("onlyruns", {}), 400, "invalid_input", "no predict()")
        self.assertEqual(self.ended(self.submit("onlyruns", {"a": [1]}))["result"], {"a": [1]})

    def test_a_function_without_run_says_so(self) -> None:
        job = self.fails("noruns", "def predict(inputs, state, ctx): return 1")
        self.assertIn("has no function run(inputs, ctx)", job["error"])

    def test_an_exception_is_the_jobs_reason_and_its_traceback_is_in_the_logs(self) -> None:
        job = self.fails("raises", """
            def run(inputs, ctx):
                raise ValueError("no such column")
        """)
        self.assertEqual((job["reason"], job["error"]), ("function_error", "ValueError: no such column"))
        logs = text_of(self.node.cli("jobs", "logs", job["id"]).stdout)
        self.assertIn("line 3, in run", logs)
        self.assertEqual(self.node.cli("jobs", "wait", job["id"], check=False).returncode, 1)

    def test_children_work_with_the_run_and_end_with_its_slice(self) -> None:
        self.deploy("parallel", """
            import concurrent.futures, multiprocessing, os, subprocess, sys

            def square(x):
                return x * x, os.getpid()

            def forbidden(path):
                try:
                    return subprocess.run([path]).returncode
                except OSError as error:
                    return type(error).__name__

            def run(inputs, ctx):
                found = {}
                for method in ("fork", "spawn", "forkserver"):
                    try:
                        context = multiprocessing.get_context(method)
                        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                            done = list(pool.map(square, range(8)))
                        found[method] = [value for value, _ in done]
                        found["children"] = os.getpid() not in {pid for _, pid in done}
                    except OSError as error:
                        found[method] = type(error).__name__
                with multiprocessing.Pool(2) as pool:
                    found["pool"] = [value for value, _ in pool.map(square, [3, 4])]
                found["shell"] = subprocess.check_output("echo $((6 * 7))", shell=True, text=True).strip()
                tool = ctx.scratch + "/tool"
                with open("/bin/true", "rb") as source, open(tool, "wb") as file:
                    file.write(source.read())
                os.chmod(tool, 0o755)
                found["own"] = forbidden(tool)
                found["sees"] = [path for path in ("/etc/passwd", "/usr", "/root") if os.path.exists(path)]
                found["net"] = subprocess.run([sys.executable, "-c",
                    "import socket; socket.socket()"], stderr=subprocess.DEVNULL).returncode
                subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"], start_new_session=True)
                return found
        """)
        before = self.node.processes()
        job = self.ended(self.submit("parallel", {}))
        self.assertEqual(job["state"], "done", job)
        found = job["result"]
        squares = [x * x for x in range(8)]
        self.assertEqual((found["fork"], found["spawn"], found["pool"]), (squares, squares, [9, 16]), found)
        self.assertTrue(found["children"])
        self.assertEqual((found["shell"], found["own"], found["sees"]), ("42", "PermissionError", []), found)
        self.assertNotEqual(found["net"], 0)
        self.node.wait_until(
            lambda: not {name for _, name in self.node.processes() - before if "sh" == name},
            "the end of what the run left running",
        )

    def test_too_much_memory_names_the_limit(self) -> None:
        self.deploy("hungry", "def run(inputs, ctx): return len(bytearray(400 << 20)) * [1]", {
            "mayfly.toml": 'memory = "128MiB"\n'})
        job = self.ended(self.submit("hungry", {}))
        self.assertEqual((job["state"], job["reason"]), ("failed", "out_of_memory"), job)
        self.assertIn("128MiB", job["error"])

    def test_a_crash_is_tried_again_from_the_checkpoint_and_then_given_up(self) -> None:
        job = self.fails("crashes", """
            import os

            def run(inputs, ctx):
                os.makedirs(ctx.scratch + "/state")
                if ctx.restore() is None:
                    ctx.checkpoint(ctx.scratch + "/state")
                print("dies")
                os.kill(os.getpid(), 11)
        """)
        self.assertEqual((job["reason"], job["slices"], job["failures"]), ("instance_crashed", 1, 3))
        self.assertEqual(text_of(self.node.cli("jobs", "logs", job["id"]).stdout).count("dies"), 3)

    def test_messages_that_mean_nothing_end_the_job(self) -> None:
        job = self.fails("liar", """
            import os, socket, stat
            def run(inputs, ctx):
                for fd in range(3, 64):  # its way to the server is one of them
                    try:
                        if stat.S_ISSOCK(os.fstat(fd).st_mode):
                            socket.socket(fileno=fd).send(b'{"checkpoint": "../../etc"}')
                    except OSError:
                        pass
                import time
                time.sleep(60)
        """)
        self.assertIn("broke its protocol", job["error"])

    def test_names_that_are_no_text_are_refused_and_harm_nobody(self) -> None:
        job = self.fails("names", """
            import os
            def run(inputs, ctx):
                state = ctx.scratch + "/state"
                os.makedirs(os.fsencode(state) + b"/" + b"\\xff/" * 1)
                for number in range(1001):
                    open(os.fsencode(state) + b"/\\xff/" + str(number).encode(), "w").close()
                ctx.checkpoint(state)
        """)
        self.assertIn("the checkpoint was not kept", job["error"])

    def test_paused_before_its_process_is_there_it_still_pauses(self) -> None:
        self.deploy("early", COUNT)
        job = self.submit("early", {"until": 1000, "pause": 0.02})
        self.node.cli("jobs", "pause", job)
        wait_until(lambda: self.job(job)["state"] == "paused", "it is paused")
        self.node.cli("jobs", "cancel", job)

    def test_more_than_a_job_may_leave_is_refused(self) -> None:
        job = self.fails("litters", """
            def run(inputs, ctx):
                for number in range(1001):
                    open(f"{ctx.output}/{number}", "w").close()
                return 1
        """)
        self.assertIn("one file too many", job["error"])

    def test_cancelled_ends_at_once_and_nothing_of_it_stays(self) -> None:
        self.deploy("slow", COUNT)
        job = self.submit("slow", {"until": 10_000, "pause": 0.02})
        wait_until(lambda: self.job(job)["slices"] > 2, "it makes checkpoints")
        self.node.cli("jobs", "cancel", job)
        self.assertEqual(self.job(job)["state"], "cancelled")
        blobs = self.node.data / "jobs" / "sha256"
        wait_until(lambda: not [f for f in blobs.rglob("*") if f.is_file() and b'"at"' in f.read_bytes()],
                   "its checkpoints go")
        self.assertRefused(self.node.request("POST", f"/api/v1/jobs/{job}/resume"), 409, "conflict")

    def test_paused_and_resumed_goes_on_where_it_was(self) -> None:
        self.deploy("pauses", COUNT)
        job = self.submit("pauses", {"until": 60, "pause": 0.02})
        wait_until(lambda: self.job(job)["slices"] > 2, "it makes checkpoints")
        self.node.cli("jobs", "pause", job)
        wait_until(lambda: self.job(job)["state"] == "paused", "it is paused")
        at = self.job(job)["progress"]["metrics"]["at"]
        self.assertLess(at, 60)
        self.node.cli("jobs", "resume", job)
        self.assertEqual(self.ended(job)["result"], {"at": 60})
        self.assertIn("restored at", text_of(self.node.cli("jobs", "logs", job).stdout))

    def test_what_can_never_fit_is_refused_with_the_figure(self) -> None:
        self.deploy("huge", COUNT, {"mayfly.toml": 'memory = "1TiB"\n'})
        refused = self.node.post_json("/api/v1/functions/huge/jobs", {"kind": "run"})
        self.assertRefused(refused, 413, "too_large", "jobs.memory")

    def test_bad_requests_are_told_apart(self) -> None:
        self.deploy("strict", COUNT)
        place = "/api/v1/functions/strict/jobs"
        self.assertRefused(self.node.post_json(place, {"kind": "walk"}), 400, "bad_request")
        self.assertRefused(self.node.post_json(place, {"kind": "run", "input": 1}), 400, "bad_request")
        self.assertRefused(self.node.post_json(place, {"kind": "run", "inputs": "x" * 60_000}), 413, "too_large")
        self.assertRefused(self.node.post_json("/api/v1/functions/none/jobs", {"kind": "run"}), 404)
        self.assertRefused(self.node.request("GET", "/api/v1/jobs/none"), 404, "not_found")
        self.assertRefused(self.node.request("GET", "/api/v1/jobs?state=odd"), 400, "bad_request")
        self.assertRefused(self.node.request("GET", "/api/v1/jobs?limit=0"), 400, "bad_request")


class SlicesTest(JobsCase):
    arguments = ("--index-url", "off", "--jobs-slice-seconds", "1", "--jobs-cpus", "1")

    def test_a_slice_ends_at_its_next_checkpoint_and_jobs_take_turns(self) -> None:
        self.deploy("turns", COUNT)
        first = self.submit("turns", {"until": 100, "pause": 0.03})
        second = self.submit("turns", {"until": 1})
        self.assertEqual(self.ended(second)["state"], "done")
        self.assertNotIn(self.job(first)["state"], OVER)
        self.assertEqual(self.ended(first)["result"], {"at": 100})
        self.assertIn("restored at", text_of(self.node.cli("jobs", "logs", first).stdout))


class RestartTest(JobsCase):
    def test_after_kill_9_a_job_goes_on_from_its_last_checkpoint(self) -> None:
        node = Node(*self.arguments)
        self.addCleanup(node.close)
        node.cli("deploy", "count", str(self.folder_of("count", COUNT)))
        job = node.post_json("/api/v1/functions/count/jobs",
                             {"kind": "run", "inputs": {"until": 120, "pause": 0.03}}).json()["id"]
        for _ in range(3):
            before = self.job(job, node)["slices"]
            wait_until(lambda: self.job(job, node)["slices"] > before + 3, "it makes checkpoints")
            kept = self.job(job, node)["slices"]
            node.kill()
            node.start()
            self.assertGreaterEqual(self.job(job, node)["slices"], kept)
        ended = self.ended(job, node)
        self.assertEqual((ended["state"], ended["result"]), ("done", {"at": 120}))
        # Of each step one checkpoint, and of each kill at most one step twice.
        self.assertLessEqual(ended["slices"], 120 + 3)

    def test_a_node_that_stops_loses_nothing_and_leaves_nothing(self) -> None:
        node = Node(*self.arguments)
        self.addCleanup(node.close)
        node.cli("deploy", "count", str(self.folder_of("stops", COUNT)))
        job = node.post_json("/api/v1/functions/count/jobs",
                             {"kind": "run", "inputs": {"until": 60, "pause": 0.03}}).json()["id"]
        wait_until(lambda: self.job(job, node)["slices"] > 2, "it makes checkpoints")
        self.assertEqual(node.stop(), 0)
        node.start()
        self.assertEqual(self.ended(job, node)["result"], {"at": 60})
