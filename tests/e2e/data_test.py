"""Datasets through the command line and over HTTP: every trap of a file, kills in the middle, quotas, scopes, erasure."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading

import numpy as np
from PIL import Image
from batch_test import flowers, read_csv, write_csv
from case import NodeCase
from jobs_test import OVER
from node import Node, wait_until
from python_test import text_of
from sklearn.datasets import load_breast_cancer, load_digits


def write_table(path, names, rows) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


class DataTest(NodeCase):
    functions = {"iris": "iris"}

    def put(self, name, *args, check: bool = True):
        return self.node.cli("data", "put", name, *map(str, args), check=check)

    def describe(self, name) -> dict:
        return self.node.cli_json("data", "describe", name)

    def test_a_seed_splits_the_same_everywhere(self) -> None:
        path = self.folder / "seeded.csv"
        write_table(path, ["x"], [[i] for i in range(500)])
        digests = []
        for name, seed in (("seeded-a", 7), ("seeded-b", 7), ("seeded-c", 8), ("seeded-d", None)):
            self.put(name, path, *([] if seed is None else ["--split", f"test=0.3,seed={seed}"]))
            shown = self.describe(name)
            self.assertEqual(shown["schema"]["split"].get("seed"), seed)
            digests.append((shown["digest"], shown["rows"]["test"]))
        self.assertEqual(digests[0], digests[1])
        self.assertNotEqual(digests[0], digests[2])
        self.assertRefusedByCli("seed", "data", "put", "seeded-e", str(path), "--split", "seed=-1")

    def assertRefusedByCli(self, words: str, *args: str) -> None:
        done = self.node.cli(*args, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(words, text_of(done.stderr))

    def test_breast_cancer_is_described_as_numpy_sees_it(self) -> None:
        data = load_breast_cancer()
        names = [name.replace(" ", "_") for name in data.feature_names] + ["class"]
        classes = data.target_names[data.target]
        path = self.folder / "cancer.csv"
        write_table(path, names, [[*map(repr, map(float, row)), label] for row, label in zip(data.data, classes)])
        said = text_of(self.put("cancer", path, "--target", "class").stdout)
        self.assertIn("cancer@1: 569 rows", said)
        shown = self.describe("cancer")
        self.assertEqual(shown["schema"]["target"], "class")
        self.assertEqual(shown["schema"]["columns"][-1]["categories"], ["benign", "malignant"])
        self.assertEqual(sum(shown["rows"].values()), 569)
        for i, column in enumerate(shown["statistics"]["columns"][:-1]):
            values = data.data[:, i]
            self.assertEqual(column["type"], "number")
            self.assertAlmostEqual(column["mean"], values.mean(), places=9)
            self.assertAlmostEqual(column["deviation"], values.std(ddof=1), places=9)
            self.assertEqual(column["min"], values.min())
            self.assertEqual(column["max"], values.max())
            self.assertEqual(sum(column["histogram"]), 569)
            rank = (values <= column["quantiles"][3]).mean()
            self.assertAlmostEqual(rank, 0.5, delta=0.03)
        text = text_of(self.node.cli("data", "describe", "cancer").stdout)
        self.assertIn("benign 63 %", text)
        self.assertIn("cancer@1", text)
        # The same bytes again make nothing; other options do.
        self.assertIn("already", text_of(self.put("cancer", path, "--target", "class").stdout))
        self.assertIn("cancer@2", text_of(self.put("cancer", path).stdout))

    def test_one_table_in_three_formats_is_one_table(self) -> None:
        digits = load_digits()
        names = [f"p{i}" for i in range(64)] + ["digit"]
        rows = np.column_stack([digits.data, digits.target]).astype(int)
        write_table(self.folder / "d.csv", names, rows.tolist())
        (self.folder / "d.tsv").write_text("\n".join("\t".join(map(str, row)) for row in [names, *rows.tolist()]))
        (self.folder / "d.jsonl").write_text("\n".join(json.dumps(dict(zip(names, row))) for row in rows.tolist()))
        digests = set()
        for ending in ("csv", "tsv", "jsonl"):
            self.put("digits", self.folder / f"d.{ending}", "--target", "digit")
            digests.add(self.describe("digits")["digest"])
        self.assertEqual(len(digests), 1)

    def test_parquet_is_read_with_its_types(self) -> None:
        write_csv(self.folder / "in.csv", flowers(500))
        for ending in ("parquet", "csv"):
            self.node.cli("batch", "iris", "--input", str(self.folder / "in.csv"), "--output", str(self.folder / f"out.{ending}"))
        self.put("flowers", self.folder / "out.parquet")
        columns = {column["name"]: column for column in self.describe("flowers")["statistics"]["columns"]}
        rows = read_csv(self.folder / "out.csv")
        self.assertEqual(set(columns), set(rows[0]) if "probabilities" not in columns else {"label", "probabilities"})
        self.assertEqual(columns["label"]["count"], 500)
        labels = [row["label"] for row in rows]
        for entry in columns["label"]["top"]:
            self.assertEqual(entry["count"], labels.count(entry["value"]))

    def test_arrays_and_images_are_columns_too(self) -> None:
        digits = load_digits()
        np.savez_compressed(self.folder / "digits.npz", x=digits.data, y=digits.target)
        self.put("arrays", self.folder / "digits.npz", "--target", "y")
        shown = self.describe("arrays")
        self.assertEqual(len(shown["schema"]["columns"]), 65)
        self.assertEqual(sum(shown["rows"].values()), 1797)
        self.assertAlmostEqual(shown["statistics"]["columns"][20]["mean"], digits.data[:, 20].mean(), places=9)
        np.savez(self.folder / "objects.npz", x=np.array([{}, 1], dtype=object))
        failed = self.put("objects", self.folder / "objects.npz", check=False)
        self.assertIn("pickle", text_of(failed.stderr))
        for i in range(200):
            path = self.folder / "images" / str(digits.target[i]) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[i] * 15).astype(np.uint8)).save(path)
        (self.folder / "images" / "0" / "broken.png").write_bytes(b"no image")
        said = text_of(self.put("images", self.folder / "images", "--image", "8x8x1", "--target", "label").stdout)
        self.assertIn("200 rows", said)
        self.assertIn("1 rows could not be read", said)
        shown = self.describe("images")
        self.assertEqual(shown["schema"]["columns"][0]["shape"], [8, 8, 1])
        self.assertEqual(shown["schema"]["columns"][1]["categories"], [str(n) for n in range(10)])
        self.node.cli("data", "append", "images", str(self.folder / "images"))

    def test_arff_is_read_as_its_header_says(self) -> None:
        path = self.folder / "weather.arff"
        path.write_text("@relation weather\n@attribute outlook {sunny, rainy}\n@attribute temperature numeric\n@data\n"
                        "sunny,85\nrainy,70.5\nsunny,?\n")
        self.put("weather", path, "--target", "outlook")
        columns = self.describe("weather")["schema"]["columns"]
        self.assertEqual(columns[0], {"name": "outlook", "type": "category", "categories": ["sunny", "rainy"]})
        self.assertEqual(columns[1]["type"], "number")

    def test_standard_input_dates_unicode_and_large_integers(self) -> None:
        text = "\ufeffid;day;name;big\r\n1;2024-01-02;\"Zoë; \"\"q\"\"\";9007199254740993\r\n2;;日本;1\r\n"
        done = self.node.cli("data", "put", "odd", "-", "--format", "csv", "--column", "name=text", stdin=text.encode())
        self.assertIn("'day' holds dates", text_of(done.stdout))
        columns = {column["name"]: column for column in self.describe("odd")["statistics"]["columns"]}
        self.assertEqual([columns[name]["type"] for name in ("id", "day", "name", "big")], ["integer", "date", "text", "integer"])
        self.assertEqual(columns["big"]["max"], 9007199254740993)
        self.assertEqual(columns["day"]["max"], 1704153600000)
        self.assertEqual(columns["day"]["missing"], 1)

    def test_bad_rows_have_lines_and_too_many_fail_the_ingest(self) -> None:
        path = self.folder / "bad.csv"
        path.write_text("a,b\n1,2\n3\n4,5,6\n" + "7,8\n" * 50)
        said = text_of(self.put("bad", path).stdout)
        self.assertIn("2 rows could not be read", said)
        self.assertIn("line 3: it has 1 fields, the header has 2", said)
        failed = self.put("worse", path, "--max-bad-rows", "1", check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("max_bad_rows = 1", text_of(failed.stderr))
        self.assertNotEqual(self.node.cli("data", "describe", "worse", check=False).returncode, 0)
        # A failed first put settles nothing.
        self.put("worse", path, "--group", "a")

    def test_wrong_schemas_are_refused_in_words(self) -> None:
        path = self.folder / "small.csv"
        path.write_text("a,b\n1,x\n2,y\n")
        for args, wanted in ((("--target", "c"), "there is no column 'c'"), (("--column", "a=float"), "number, integer, date"),
                             (("--column", "z=text"), "there is no column 'z'"), (("--split", "valid=0.8,test=0.5"), "at most 0.9"),
                             (("--time", "b"), "cannot be split by time"), (("--id", "a", "--group", "b"), "one of --id")):
            failed = self.put("wrong", path, *args, check=False)
            self.assertNotEqual(failed.returncode, 0, args)
            self.assertIn(wanted, text_of(failed.stderr))
        self.put("settled", path)
        failed = self.put("settled", path, "--group", "a", check=False)
        self.assertIn("split otherwise", text_of(failed.stderr))

    def test_appends_at_the_same_time_all_happen(self) -> None:
        first = self.folder / "first.csv"
        first.write_text("id,c\n" + "".join(f"{i},a\n" for i in range(100)))
        self.put("grow", first)
        ends = []

        def append(n: int) -> None:
            path = self.folder / f"more{n}.csv"
            path.write_text("c,id\n" + "".join(f"n{n},{1000 * n + i}\n" for i in range(100)))
            ends.append(self.node.cli("data", "append", "grow", str(path), check=False).returncode)

        threads = [threading.Thread(target=append, args=(n,)) for n in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(ends, [0] * 4)
        shown = self.describe("grow")
        self.assertEqual((shown["number"], sum(shown["rows"].values())), (5, 500))
        identity, category = shown["statistics"]["columns"]
        self.assertEqual((identity["count"], identity["max"]), (500, 4099))
        self.assertEqual(category["distinct"], 5)
        self.assertEqual(sorted(shown["schema"]["columns"][1]["categories"]), ["a", "n1", "n2", "n3", "n4"])

    def test_what_is_erased_is_gone_and_what_others_have_stays(self) -> None:
        path = self.folder / "erase.csv"
        path.write_text("secret\n" + "".join(f"erase-me-{i}\n" for i in range(200)))
        self.put("erase", path, "--column", "secret=text")
        more = self.folder / "erase2.csv"
        more.write_text("secret\n" + "".join(f"another-{i}\n" for i in range(200)))
        self.node.cli("data", "append", "erase", str(more))

        def bytes_with(word: bytes) -> int:
            return sum(word in file.read_bytes() for file in (self.node.data / "jobs" / "sha256").rglob("*") if file.is_file())

        self.assertGreater(bytes_with(b"erase-me-7"), 0)
        said = text_of(self.node.cli("data", "delete", "erase@1", "--reason", "asked for").stdout)
        self.assertIn("erase@2", said)
        self.assertGreater(bytes_with(b"erase-me-7"), 0)
        self.node.cli("data", "delete", "erase@2", "--reason", "asked for")
        wait_until(lambda: bytes_with(b"erase-me-7") == 0, "the bytes go")
        self.assertEqual(bytes_with(b"another-7"), 0)
        shown = self.describe("erase@2")
        self.assertEqual(shown["erased"]["reason"], "asked for")
        self.assertEqual(shown["schema"]["columns"][0]["name"], "secret")
        self.assertEqual(len(shown["digest"]), 64)
        again = self.node.cli("data", "delete", "erase@2", "--reason", "x", check=False)
        self.assertIn("erased already", text_of(again.stderr))


    def test_rows_that_a_file_names_are_erased(self) -> None:
        path = self.folder / "people.csv"
        lines = [f"{i},{i % 50},person-{i}-of-many" for i in range(1000)]
        path.write_text("id,customer,note\n" + "\n".join(lines) + "\n")
        self.put("people", path, "--column", "note=text", "--group", "customer")
        before = self.describe("people")
        keys = self.folder / "gone.csv"
        keys.write_text("customer\n7\n8\n77\n")

        def bytes_with(word: bytes) -> int:
            return sum(word in file.read_bytes() for file in (self.node.data / "jobs" / "sha256").rglob("*") if file.is_file())

        self.assertGreater(bytes_with(b"person-57-of-many"), 0)
        said = text_of(self.node.cli("data", "delete", "people@1", "--rows", str(keys), "--reason", "request 9").stdout)
        self.assertIn("people@2: 960 rows", said)
        self.assertIn("40 rows are gone, and people@1 is erased", said)
        self.assertIn("1 of 3 lines name no row", said)
        wait_until(lambda: bytes_with(b"person-57-of-many") == 0, "the bytes go")
        self.assertGreater(bytes_with(b"person-56-of-many"), 0)
        after = self.describe("people")
        self.assertEqual((after["number"], after["kind"], after["parent"]), (2, "without", 1))
        self.assertEqual(after["schema"], before["schema"])
        self.assertEqual(after["statistics"]["columns"][0]["count"], 960)
        self.assertEqual(self.describe("people@1")["erased"]["reason"], "request 9")
        # Nothing is erased where nothing is found, and only the newest has a next one.
        again = self.node.cli("data", "delete", "people@2", "--rows", str(keys), "--reason", "x", check=False)
        self.assertIn("nothing is erased", text_of(again.stderr))
        self.assertNotIn("erased", self.describe("people@2"))
        self.node.cli("data", "append", "people", str(path))
        old = self.node.cli("data", "delete", "people@2", "--rows", str(keys), "--reason", "x", check=False)
        self.assertIn("people@3", text_of(old.stderr))
        # What an older snapshot shares is told.
        said = text_of(self.node.cli("data", "delete", "people@3", "--rows", str(keys), "--reason", "y").stdout)
        self.assertIn("people@2", said)
        self.assertEqual(sum(self.describe("people@4")["rows"].values()), 1920)

    def test_an_append_in_time_keeps_the_boundary_until_it_is_moved(self) -> None:
        def days(name: str, first: int, last: int):
            path = self.folder / name
            rows = ((np.datetime64("2024-01-01") + i, i) for i in range(first, last))
            write_table(path, ("day", "x"), rows)
            return path

        self.put("days", days("old.csv", 0, 100), "--time", "day")
        first = self.describe("days")
        self.node.cli("data", "append", "days", str(days("new.csv", 100, 200)))
        second = self.describe("days")
        self.assertEqual(second["schema"]["split"], first["schema"]["split"])
        self.assertEqual(second["rows"]["test"], first["rows"]["test"] + 100)
        self.node.cli("data", "append", "days", str(days("newer.csv", 200, 300)), "--move-boundary")
        third = self.describe("days")
        self.assertGreater(third["schema"]["split"]["test_from"], first["schema"]["split"]["test_from"])
        self.assertEqual(sum(third["rows"].values()), 300)
        self.assertAlmostEqual(third["rows"]["test"], 60, delta=6)
        self.assertEqual(third["statistics"]["columns"][1]["max"], 299)
        # The others are what they were.
        self.assertEqual(self.describe("days@2")["rows"], second["rows"])
        refused = self.node.cli("data", "append", "web", str(days("x.csv", 0, 9)), "--move-boundary", check=False)
        self.assertNotEqual(refused.returncode, 0)

    def test_a_backup_has_datasets(self) -> None:
        path = self.folder / "kept.csv"
        write_table(path, ("x", "y"), ((i, i % 2) for i in range(500)))
        self.put("kept", path)
        self.put("kept_not", path)
        self.node.cli("data", "delete", "kept_not@1", "--reason", "x")
        backup, data = self.folder / "backup", self.folder / "restored"
        self.node.cli("backup", str(backup))
        self.node.cli("restore", str(backup), "--data", str(data))
        restored = Node(data=data)
        self.addCleanup(restored.close)
        self.assertEqual(restored.cli_json("data", "describe", "kept"), self.describe("kept"))
        self.assertIn("erased", restored.cli_json("data", "describe", "kept_not@1"))
        # It is whole: what is appended reads it, and rows keep their splits.
        done = restored.cli("data", "delete", "kept@1", "--rows", str(self.one_row("x", 7)), "--reason", "x")
        self.assertIn("499 rows", text_of(done.stdout))

    def one_row(self, column: str, value: int):
        path = self.folder / "one.csv"
        path.write_text(f"{column}\n{value}\n")
        return path

    def test_a_full_quota_refuses_and_leaves_nothing(self) -> None:
        path = self.folder / "quota.csv"
        path.write_text("x\n" + "".join(f"{i}.5\n" for i in range(20_000)))
        self.node.cli("project", "quota", "default", "data_bytes=100KiB")
        self.addCleanup(self.node.cli, "project", "quota", "default", "data_bytes=0")
        failed = self.put("quota", path, check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertRegex(text_of(failed.stderr), "quota_exceeded|too_large")
        self.assertNotEqual(self.node.cli("data", "describe", "quota", check=False).returncode, 0)
        self.node.cli("project", "quota", "default", "data_bytes=0")
        self.put("quota", path)

    def test_what_happened_is_in_the_audit_log(self) -> None:
        path = self.folder / "audit.csv"
        path.write_text("x\n1\n2\n")
        self.put("audited", path)
        self.node.cli("data", "delete", "audited@1", "--reason", "x")
        log = text_of(self.node.cli("audit").stdout)
        for word in ("data.put", "data.erase", "audited@1"):
            self.assertIn(word, log)


class DataScopeTest(NodeCase):
    def test_a_key_reaches_the_datasets_that_it_names(self) -> None:
        node = Node()
        self.addCleanup(node.close)
        owner, mine, reader = (
            node.cli_json("key", "create", "--scope", scopes, "--data", str(node.data))["key"]
            for scopes in ("admin,data,read", "data:mine", "read:mine"))
        node.environment = {"MAYFLY_KEY": owner}
        path = self.folder / "scoped.csv"
        path.write_text("x\n1\n2\n")
        node.cli("data", "put", "other", str(path))
        node.environment = {"MAYFLY_KEY": mine}
        node.cli("data", "put", "mine", str(path))
        node.cli("data", "describe", "mine")
        for words in (("data", "describe", "other"), ("data", "put", "other", str(path)),
                      ("data", "delete", "other@1", "--reason", "x"), ("usage",)):
            refused = node.cli(*words, check=False)
            self.assertIn("missing_scope", text_of(refused.stderr), words)
        self.assertEqual([one["name"] for one in node.cli_json("data", "list")["datasets"]], ["mine"])
        self.assertEqual([job["dataset"] for job in node.cli_json("jobs", "list")["jobs"]], ["mine"])
        node.environment = {"MAYFLY_KEY": reader}
        node.cli("data", "describe", "mine")
        refused = node.cli("data", "delete", "mine@1", "--reason", "x", check=False)
        self.assertIn("missing_scope", text_of(refused.stderr))


class DataKillTest(NodeCase):
    def big(self, rows: int = 300_000):
        path = self.folder / "big.csv"
        values = np.random.default_rng(1).normal(size=(rows, 8))
        np.savetxt(path, values, delimiter=",", header=",".join("abcdefgh"), comments="", fmt="%.6f")
        return path

    def put(self, path, name: str) -> str:
        return self.node.cli_json("data", "put", name, str(path), "--detach")["id"]

    def job(self, job: str) -> dict:
        return self.node.cli_json("jobs", "show", job)

    def worker(self) -> int:
        """The pid of the jailed worker that reads the file, or 0."""
        for pid, _ in self.node.processes():
            try:
                with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
                    if "libmayfly-batch.so" in maps.read():
                        return pid
            except OSError:
                continue
        return 0

    def test_killed_in_the_middle_it_begins_again_and_makes_one_snapshot(self) -> None:
        path = self.big()
        job = self.put(path, "worker")
        wait_until(lambda: self.worker() != 0, "the worker runs")
        os.kill(self.worker(), signal.SIGKILL)
        wait_until(lambda: self.job(job)["state"] in OVER, "it ends", 200)
        self.assertEqual(self.job(job)["state"], "done", self.job(job))
        job = self.put(path, "server")
        wait_until(lambda: self.job(job)["progress"].get("fraction", 0) > 0, "it is on its way")
        self.node.kill()
        self.node.start()
        wait_until(lambda: self.job(job)["state"] in OVER, "it ends", 200)
        self.assertEqual(self.job(job)["result"]["snapshot"], 1)
        server, worker = (self.node.cli_json("data", "describe", name) for name in ("server", "worker"))
        self.assertEqual(sum(server["rows"].values()), 300_000)
        self.assertEqual(server["statistics"], worker["statistics"])
        self.assertEqual(len(self.node.cli_json("data", "list")["datasets"]), 2)
