"""Several versions of a function at once: aliases, splits, shadows, the way back, and switches under load."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

from case import NodeCase
from node import MODELS, tensor


NUMBERS = [tensor("a", "FP32", [1], [5]), tensor("b", "FP32", [1], [6])]


class TrafficTest(NodeCase):
    functions = {"iris": "iris"}

    def setUp(self) -> None:
        self.name = f"f{self.id().rsplit('.', 1)[-1][5:40].replace('_', '-')}"
        for _ in range(3):
            self.node.cli("deploy", self.name, str(MODELS / "adder"))

    def versions(self, count: int, headers=lambda i: {}, name: str | None = None) -> Counter:
        seen: Counter = Counter()
        for i in range(count):
            path = f"/v2/models/{name or self.name}/infer"
            reply = self.node.request("POST", path, json.dumps({"inputs": NUMBERS}).encode(), headers(i))
            self.assertServed(reply)
            self.assertEqual(reply.json()["model_version"], reply.headers["Mayfly-Version"])
            seen[int(reply.headers["Mayfly-Version"])] += 1
        return seen

    def traffic(self, **change) -> dict:
        path = f"/api/v1/functions/{self.name}/traffic"
        reply = self.node.request("PUT", path, json.dumps(change).encode()) if change else self.node.request("GET", path)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def test_a_split_is_spread_and_its_versions_stay_addressable(self) -> None:
        self.node.cli("traffic", self.name, "1=50", "3=50")
        seen = self.versions(200)
        self.assertEqual(set(seen), {1, 3})
        self.assertGreater(min(seen.values()), 60)  # five standard deviations
        for name, version in ((f"{self.name}@2", 2), (f"{self.name}@champion", 3), (f"{self.name}@previous", 2)):
            self.assertEqual(self.versions(3, name=name), {version: 3})
        rows = self.node.cli_json("usage", "--function", self.name)["rows"]
        records = {row["version"]: row["requests"] for row in rows}
        self.assertEqual(records[1], seen[1])
        self.assertEqual(records[2], 6)

    def test_a_key_keeps_its_version_and_a_growing_canary_only_gains(self) -> None:
        self.traffic(weights={"2": 80, "3": 20}, sticky_header="X-User")
        before = [next(iter(self.versions(2, lambda _: {"X-User": f"u{i}"}))) for i in range(60)]
        self.assertEqual(set(before), {2, 3})
        for i, version in enumerate(before):
            self.assertEqual(self.versions(1, lambda _: {"X-User": f"u{i}"}), {version: 1})
            self.assertEqual(self.versions(1, lambda _: {"Mayfly-Key": f"u{i}"}), {version: 1})
        self.traffic(weights={"2": 40, "3": 60}, sticky_header="X-User")
        after = [next(iter(self.versions(1, lambda _: {"X-User": f"u{i}"}))) for i in range(60)]
        self.assertFalse([i for i in range(60) if before[i] == 3 and after[i] == 2])
        self.assertGreater(after.count(3), before.count(3))

    def test_an_alias_moves_by_compare_and_swap_with_history(self) -> None:
        self.node.cli("alias", self.name, "stable=1", "--expect", "none")
        lost = self.node.cli("alias", self.name, "stable=2", "--expect", "3", check=False)
        self.assertIn("is version 1, not version 3", lost.stderr.decode())
        self.node.cli("alias", self.name, "stable=2", "--expect", "1", "--why", "passed review")
        self.assertEqual(self.versions(1, name=f"{self.name}@stable"), {2: 1})
        history = self.node.cli("history", self.name).stdout.decode()
        self.assertRegex(history, r"alias +alias stable, from 1, to 2, why passed review")
        self.node.cli("alias", self.name, "stable", "--remove")
        self.assertRefused(self.node.infer(f"{self.name}@stable", *NUMBERS), 404, "unknown_version")
        self.assertRefused(self.node.infer(f"{self.name}@Bad!", *NUMBERS), 400)

    def test_an_alias_evicts_its_version_and_no_other(self) -> None:
        self.node.cli("alias", self.name, "beta=1")
        for version in (1, 2):
            self.versions(1, name=f"{self.name}@{version}")
        self.node.cli("evict", f"{self.name}@beta")
        running = lambda: {
            entry["label"]
            for entry in self.node.request("GET", "/api/v1/top").json()["functions"]
            if entry["templates"] > 0
        }
        self.node.wait_until(lambda: f"{self.name}@1" not in running(), "the alias's version is at zero")
        self.assertIn(f"{self.name}@2", running())

    def test_what_cannot_be_is_refused_and_changes_nothing(self) -> None:
        before = self.traffic()
        for weights in ({"1": 50, "2": 49}, {"9": 100}, {"1": 0, "2": 100}, {"x": 100}, {"1": 1.5, "2": 98.5}, [1]):
            reply = self.node.request(
                "PUT", f"/api/v1/functions/{self.name}/traffic", json.dumps({"weights": weights}).encode()
            )
            self.assertIn(reply.status, (400, 404), (weights, reply.body))
            self.assertTrue(reply.json()["error"])
        for arguments, said in (
            (("traffic", self.name, "1=0", "2=0"), "sum to 0"),
            (("alias", self.name, "a=1", "--expect", ""), "version"),
            (("alias", self.name, "a=1", "--why", "red \x1b[31m"), "control characters"),
            (("alias", self.name, "a=1", "--why", "long " * 201), "at most 1000 bytes"),
            (("history", "nowhere"), "no function 'nowhere'"),
        ):
            done = self.node.cli(*arguments, check=False)
            self.assertNotEqual(done.returncode, 0, arguments)
            self.assertIn(said, done.stderr.decode())
        self.assertEqual(self.traffic(), before)

    def test_history_says_who_got_the_requests_before_and_after(self) -> None:
        self.node.cli("traffic", self.name, "2=60", "3=40")
        self.node.cli("rollback", self.name)
        self.node.cli("traffic", self.name, "2=100")
        last, ended, split = (
            item["change"] for item in self.node.cli_json("history", self.name)["history"][:3]
        )
        self.assertEqual((split["before"]["weights"], split["after"]["weights"]), ({"3": 100}, {"2": 60, "3": 40}))
        self.assertEqual((ended["before"]["weights"], ended["after"]["weights"]), ({"2": 60, "3": 40}, {"3": 100}))
        self.assertEqual((last["before"]["champion"], last["after"]["champion"]), (3, 2))
        self.assertRegex(
            self.node.cli("history", self.name).stdout.decode(), r"champion 3 → 2, weights .*3.*100.* → .*2.*100"
        )

    def test_a_deploy_says_when_clients_of_the_champion_may_not_fit(self) -> None:
        done = self.node.cli("deploy", self.name, str(MODELS / "iris"), "--canary", "5")
        self.assertIn("other inputs or outputs than version 3", (done.stdout + done.stderr).decode())

    def test_deploys_choose_what_their_version_gets(self) -> None:
        adder = str(MODELS / "adder")
        silent = self.node.cli("deploy", self.name, adder, "--no-traffic").stdout.decode()
        self.assertIn("@4 gets no requests", silent)
        canary = self.node.cli("deploy", self.name, adder, "--canary", "10").stdout.decode()
        self.assertIn("@5 is serving 10 % of the requests", canary)
        self.assertEqual(self.traffic()["weights"], {"3": 90, "5": 10})
        second = self.node.cli("deploy", self.name, adder, "--canary", "10", check=False)
        self.assertIn("split already", second.stderr.decode())
        self.node.cli("rollback", self.name)
        self.assertEqual(self.traffic()["weights"], {"3": 100})
        self.node.cli("rollback", self.name)
        self.assertEqual(self.traffic()["champion"], 2)

    def test_rolling_back_works_while_the_newest_version_is_broken(self) -> None:
        self.node.cli("deploy", self.name, str(MODELS / "crash"))
        self.node.infer(self.name, *NUMBERS)
        back = self.node.cli("rollback", self.name).stdout.decode()
        self.assertIn("goes to version 3 again", back)
        self.assertEqual(self.versions(5), {3: 5})

    def test_shadows_see_copies_and_callers_do_not_notice(self) -> None:
        self.node.cli("deploy", self.name, str(MODELS / "crash"), "--no-traffic")
        self.traffic(weights={"3": 100}, shadows={"2": 100, "4": 100})
        self.assertEqual(self.versions(20), {3: 20})

        def done() -> bool:
            rows = {row["shadow"]: row for row in self.traffic()["comparisons"]}
            return {2, 4} <= set(rows) and all(sum(r[k] for k in ("compared", "failed", "dropped")) == 20 for r in rows.values())

        self.node.wait_until(done, "every copy ran or was dropped")
        rows = {row["shadow"]: row for row in self.traffic()["comparisons"]}
        self.assertEqual(rows[2]["agreed"], rows[2]["compared"])
        self.assertGreater(rows[2]["compared"], 0)
        self.assertEqual(rows[4]["compared"], 0)
        self.assertGreater(rows[4]["failed"], 0)
        shown = self.node.cli("traffic", self.name).stdout.decode()
        self.assertIn("SHADOW", shown)
        self.assertIn("100.0 %", shown)

    def test_all_of_it_outlives_a_restart(self) -> None:
        self.node.cli("alias", self.name, "stable=1")
        wanted = self.traffic(weights={"2": 30, "3": 70}, shadows={"1": 5}, sticky_header="X-User")
        self.node.kill()
        self.node.start()
        self.assertEqual(self.traffic(), wanted)


class SwitchTest(NodeCase):
    functions = {"fraud": "adder", "switched": "adder"}

    def test_two_hundred_switches_lose_and_mix_up_no_request(self) -> None:
        for _ in range(3):
            self.node.cli("deploy", "switched", str(MODELS / "adder"))
        stop = threading.Event()
        failed: list = []
        answers: list[tuple[float, float, int]] = []  # began, ended, version
        switches: list[tuple[float, float, int]] = [(0, 0, 4)]  # asked, acknowledged, champion

        def ask() -> None:
            while not stop.is_set():
                began = time.monotonic()
                reply = self.node.infer("switched", *NUMBERS)
                if reply.status != 200:
                    failed.append((reply.status, reply.body[:200]))
                else:
                    answers.append((began, time.monotonic(), int(reply.headers["Mayfly-Version"])))

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            for i in range(200):
                self.switch(i, switches)
        finally:
            stop.set()
            for asker in askers:
                asker.join()
        self.assertEqual(failed, [])
        self.assertEqual([answer for answer in answers if answer[2] not in champions(switches, answer)], [])
        self.assertGreater(min(Counter(version for _, _, version in answers).values()), 20)

    def switch(self, i: int, switches: list) -> None:
        """Forth to each version in turn by its alias, and back by rolling back."""
        asked = time.monotonic()
        if i % 2 == 0:
            target = 1 + i // 2 % 3
            body = json.dumps({"version": target}).encode()
            reply = self.node.request("PUT", "/api/v1/functions/switched/aliases/champion", body)
        else:
            target = 4
            reply = self.node.request("POST", "/api/v1/functions/switched/rollback")
        switches.append((asked, time.monotonic(), target))
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.json()["champion"], target)
        if i % 20 == 0:
            self.node.wait_until(lambda: len(self.resident()) <= 2, "what lost its share is gone")

    def resident(self) -> set[str]:
        rows = self.node.cli_json("top")["functions"]
        return {row["label"] for row in rows if row["name"] == "switched"}

    def test_a_deploy_starts_its_version_before_it_gets_a_request(self) -> None:
        self.assertServed(self.node.infer("fraud", *NUMBERS))
        self.node.cli("deploy", "fraud", str(MODELS / "adder"))
        first = self.node.infer("fraud", *NUMBERS)
        self.assertEqual(first.headers["Mayfly-Start"], "template")
        old = f"fraud@{int(first.headers['Mayfly-Version']) - 1}"
        self.node.wait_until(
            lambda: old not in {row["label"] for row in self.node.cli_json("top")["functions"]}, "the old version is gone"
        )


def champions(switches: list[tuple[float, float, int]], answer: tuple[float, float, int]) -> set[int]:
    """Who may have answered: the champion when the request began, and those of switches under way until it ended."""
    began, ended, _ = answer
    before = [target for _, acknowledged, target in switches if acknowledged <= began]
    meanwhile = {target for asked, acknowledged, target in switches if asked <= ended and acknowledged > began}
    return meanwhile | {before[-1]}
