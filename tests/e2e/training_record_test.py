"""From a training to its version: gate, record, lineage, card, registration without a goal, erasure, export."""

from __future__ import annotations

import json

from case import NodeCase
from python_test import text_of
from training_test import DATA_TOO_SMALL, GOAL_NOT_REACHED, SPLIT, cancer

EVIL = '<script>alert("x")</script>'


class TrainingRecordTest(NodeCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cancer(cls.folder / "cancer.csv")
        cls.node.cli("data", "put", "cancer", str(cls.folder / "cancer.csv"), "--target", "class", "--split", SPLIT)

    def train(self, name: str, *args: str, codes: tuple[int, ...] = (0,)) -> dict:
        done = self.node.cli("train", name, "--data", "cancer", "--no-baseline", "--seed", "1", *args, "--json", check=False)
        self.assertIn(done.returncode, codes, done.stderr.decode() + done.stdout.decode())
        return json.loads(done.stdout)

    def describe(self, name: str) -> dict:
        return self.node.cli_json("describe", name)

    def row(self) -> bytes:
        inputs = self.describe("tumor@1")["inputs"]
        return json.dumps({tensor["name"]: [1.0] for tensor in inputs}).encode()

    def test_a_search_begins_with_what_the_serving_version_was_trained_with(self) -> None:
        search = ("--search", "--trials", "4", "--params", '{"rounds": 30}')
        first = self.train("warm", *search)
        self.assertNotIn("warm_start", first["training"])
        second = self.train("warm", *search, "--no-deploy")
        started = second["training"]["warm_start"]
        self.assertEqual(started["version"], "warm@1")
        learned = self.node.cli_json("card", "warm@1")["training"]["trainer"]["params"]
        self.assertEqual(started["params"], {name: learned[name] for name in started["params"]})
        ends = [json.loads(line).get("end") for line in self.decisions(second["id"])]
        tried = next(end["params"] for end in ends if end and end["trial"] == 1)
        self.assertEqual(tried, {"rounds": 30, **started["params"]})
        self.assertNotIn("warm_start", self.train("warm", *search, "--no-deploy", "--no-warm-start")["training"])

    def decisions(self, job: str) -> list[str]:
        reply = self.node.request("GET", f"/api/v1/jobs/{job}/file?name=decisions.jsonl")
        return reply.body.decode().splitlines()

    def test_a_training_becomes_a_version_with_its_lineage_and_card(self) -> None:
        job = self.train("tumor", "--goal", "auc >= 0.9", "--no-search")
        self.assertEqual(job["result"]["version"], 1, job["result"])
        self.assertTrue(job["result"]["gate"]["passed"], job["result"]["gate"])
        about = self.describe("tumor")
        self.assertEqual(about["weight"], 100)
        self.assertTrue(about["provenance"]["signed"])
        self.assertEqual(about["training"]["job"], job["id"])
        self.assertEqual(about["training"]["data"], [{"dataset": "cancer", "snapshot": 1}])
        reply = self.node.request("POST", "/functions/tumor", self.row())
        self.assertEqual(reply.status, 200, reply.body)
        lineage = self.node.cli_json("lineage", reply.headers["Mayfly-Invocation"])
        self.assertEqual((lineage["function"], lineage["version"]), ("tumor", 1))
        self.assertEqual(lineage["jobs"][0]["id"], job["id"])
        self.assertEqual(lineage["data"][0]["made_of"][0]["sources"][0]["name"], "cancer.csv")
        self.assertIn("from cancer.csv", text_of(self.node.cli("lineage", "tumor@1").stdout))
        back = self.node.cli_json("lineage", "--data", "cancer@1")
        self.assertIn(("tumor", 1), [(each["function"], each["version"]) for each in back["versions"]])
        card = self.node.cli_json("card", "tumor@1")
        self.assertGreater(card["training"]["metrics"]["test"]["auc"]["low"], 0.9)
        self.assertEqual(card["training"]["confusion"]["test"] is None, False)
        page = self.folder / "card.html"
        self.node.cli("card", "tumor@1", "--out", str(page))
        text = page.read_text()
        for part in ("tumor@1", "Confusion", "Calibration", "What counts most", "cancer.csv", "Passed."):
            self.assertIn(part, text)
        self.assertNotIn("<script", text)
        reply = self.node.request("GET", "/api/v1/functions/tumor/versions/1/card?format=html")
        self.assertIn("default-src 'none'", reply.headers["Content-Security-Policy"])

        # An equal one is not shown to be better, so that nobody's requests reach it.
        self.node.cli("configure", "tumor", 'gate={"min_rows":50}')  # a split has about 114 test rows
        second = self.train("tumor", "--goal", "auc >= 0.9", "--params", '{"eta": 0.29}')
        self.assertEqual(second["result"]["version"], 2)
        gate = second["result"]["gate"]
        self.assertFalse(gate["passed"], gate)
        self.assertEqual(gate["checks"][0]["against"], 1, gate)
        self.assertEqual(self.describe("tumor@2")["weight"], 0)
        # Where that is enough, being no worse is.
        self.node.cli("configure", "tumor", 'gate={"require":"not_worse","margin":0.1,"max_slowdown":0,"min_rows":50}')
        words = ("train", "tumor", "--data", "cancer", "--no-baseline", "--seed", "1", "--params", '{"eta": 0.28}')
        third = text_of(self.node.cli(*words, "--detach").stdout).strip()  # its rollout waits for requests
        self.node.cli("jobs", "wait", third)
        result = self.node.cli_json("jobs", "show", third)["result"]
        self.assertTrue(result["gate"]["passed"], result["gate"])
        self.assertEqual(result["rollout"], {"state": "started"})
        self.assertEqual(self.describe("tumor")["rollout"]["version"], 3)

        folder = self.folder / "exported"
        self.node.cli("export", "tumor@1", str(folder))
        self.assertEqual(json.loads((folder / "training.json").read_text())["job"], job["id"])
        self.node.cli("import", "moved", str(folder))
        moved = self.describe("moved")
        self.assertEqual((moved["training"]["job"], moved["training"]["data"]), (job["id"], []))
        self.assertTrue(any("elsewhere" in limit for limit in self.node.cli_json("card", "moved")["limits"]))
        (folder / "training.json").write_text(json.dumps({"format": 1}))
        self.assertEqual(self.node.cli("import", "moved", str(folder), check=False).returncode, 2)

    def test_what_missed_its_goal_is_registered_by_hand(self) -> None:
        job = self.train("missed", "--goal", "auc >= 0.9999", "--no-search", codes=(GOAL_NOT_REACHED, DATA_TOO_SMALL))  # as the node splits the rows
        self.assertNotIn("version", job["result"])
        self.assertNotEqual(self.node.cli("register", job["id"], check=False).returncode, 0)
        made = self.node.cli_json("register", job["id"], "--reason", f"good enough {EVIL}")
        self.assertEqual(made["version"], 1)
        self.assertEqual(self.node.cli_json("register", job["id"], "--reason", "again")["version"], 1)
        self.assertEqual(self.describe("missed@1")["weight"], 0)
        self.assertEqual(self.node.request("POST", "/functions/missed", b"{}").status, 404)
        self.assertEqual(self.node.request("GET", "/v2/models/missed/ready").status, 404)
        self.node.cli("traffic", "missed", "1=100")
        self.assertEqual(self.node.request("GET", "/v2/models/missed/ready").status, 200)
        reply = self.node.request("GET", "/api/v1/functions/missed/versions/1/card?format=html")
        self.assertNotIn(b"<script", reply.body)
        self.assertIn(b"&lt;script&gt;", reply.body)

    def test_data_that_are_erased_say_so_on_the_version(self) -> None:
        self.node.cli("data", "put", "gone", str(self.folder / "cancer.csv"), "--target", "class")
        done = self.node.cli("train", "forgotten", "--data", "gone", "--no-baseline", "--json")
        self.assertEqual(json.loads(done.stdout)["result"]["version"], 1)
        self.node.cli("data", "delete", "gone@1", "--reason", "asked for by its owner")
        self.assertEqual(self.describe("forgotten")["training"]["data"][0]["erased"]["reason"], "asked for by its owner")
        self.assertIn("ERASED", text_of(self.node.cli("describe", "forgotten").stdout))
        self.assertIn("ERASED", text_of(self.node.cli("lineage", "forgotten@1").stdout))
        self.assertIn("were erased", " ".join(self.node.cli_json("card", "forgotten")["limits"]))

    def test_only_trainings_that_are_done_are_registered(self) -> None:
        reply = self.node.request("POST", "/api/v1/jobs/019a5d3e-6c0f-7a31-9d52-3f0d8f1f7a11/register", b'{"reason": "x"}')
        self.assertEqual(reply.status, 404)
        ingest = self.node.request("GET", "/api/v1/datasets/cancer/snapshots/1").json()["job"]
        reply = self.node.request("POST", f"/api/v1/jobs/{ingest}/register", b'{"reason": "x"}')
        self.assertEqual(reply.status, 409)
