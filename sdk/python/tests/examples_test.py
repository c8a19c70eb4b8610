"""The examples, as their READMEs say: deployed with one command, asked, and the answer is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mayfly
from sdk_case import ROOT, SdkCase

EXAMPLES, PREPARED = ROOT / "examples", ROOT / "build" / "examples"


class ExamplesTest(SdkCase):
    def run_program(self, program: str, *arguments: str) -> list[str]:
        """What examples/PROGRAM prints."""
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / program), *arguments],
            env=os.environ | {"MAYFLY_URL": self.node.url},
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout.splitlines()

    def curl(self, name: str, body: bytes, content_type: str = "application/json"):
        reply = self.node.request(
            "POST", f"/functions/{name}", body, {"Content-Type": content_type}
        )
        self.assertServed(reply)
        return reply.json()

    def test_ocr_reads_a_photographed_page(self) -> None:
        self.node.deploy("ocr", PREPARED / "ocr")
        picture = (PREPARED / "ocr" / "lines" / "1.png").read_bytes()
        reply = self.curl("ocr", picture, "image/png")
        self.assertEqual("".join(reply["characters"]), "Region-based segmentation")
        lines = self.run_program("ocr/ask.py")
        self.assertEqual(len(lines), 6)
        self.assertIn("Let us first determine markers of the coins and the", lines[1])
        self.assertIn("histogram of grey values:", lines[5])

    def test_voice_finds_four_words_and_no_noise(self) -> None:
        self.node.deploy("voice", PREPARED / "voice" / "model.onnx")
        _, _, *spoken = self.run_program("voice/ask.py")
        times = [(float(line.split()[2]), float(line.split()[5])) for line in spoken]
        self.assertEqual(len(times), 4, spoken)
        for (begin, end), (low, high) in zip(
            times, ((0.5, 1.2), (1.1, 2.0), (4.3, 5.0), (5.0, 5.8))
        ):
            self.assertTrue(low < begin < end < high, spoken)

    def test_voice_knows_only_what_is_passed_back_to_it(self) -> None:
        self.node.deploy("voice", PREPARED / "voice" / "model.onnx")
        program = (EXAMPLES / "voice" / "ask.py").read_text()
        forgetful = program.replace("state, context = ", "_, context = ")
        forgetful = forgetful.replace("Path(__file__).resolve().parents[2]", f"Path({str(ROOT)!r})")
        script = self.folder / "forgetful.py"
        script.write_text(forgetful)
        self.assertNotEqual(self.run_program(str(script)), self.run_program("voice/ask.py"))

    def test_language_answers_as_it_was_trained(self) -> None:
        self.node.deploy("language", PREPARED / "language")
        body = '{"text": ["Der Zug nach München fährt heute nicht."]}'.encode()
        self.assertEqual(self.curl("language", body)["label"], ["de"])
        labels = [line.split()[0] for line in self.run_program("language/ask.py")]
        self.assertEqual(labels, ["en", "de", "fr", "es", "pl", "sv", "ru"])
        expected = json.loads((PREPARED / "language" / "expected.json").read_text())
        served = self.mayfly.call("language", {"text": expected["texts"]})["label"].tolist()
        equal = sum(map(str.__eq__, served, expected["labels"]))
        self.assertGreaterEqual(equal, 198, "of 200")  # float32 here, float64 in scikit-learn

    def test_credit_is_trained_deployed_and_asked_from_python(self) -> None:
        trained = self.run_program("credit/train.py")
        self.assertGreater(float(trained[0].rsplit(" ", 1)[1]), 0.8)
        self.assertEqual(trained[1], "credit@1 is serving")
        *_, below, above = self.run_program("credit/ask.py")
        badly = [int(line.rsplit("%", 1)[0].rsplit(" ", 1)[1]) for line in (below, above)]
        self.assertGreater(badly[0], 3 * badly[1])
        readme = (EXAMPLES / "credit" / "README.md").read_text()
        body = readme.split("-d '")[1].split("'\n")[0]
        chances = self.curl("credit", body.encode())["probabilities"][0]
        self.assertAlmostEqual(sum(chances), 1, places=5)

    def test_recommend_knows_what_goes_with_what(self) -> None:
        self.node.deploy("recommend", PREPARED / "recommend")
        body = b'{"liked": ["Toy Story", "Finding Nemo", "No Such Film"], "count": 5}'
        reply = self.curl("recommend", body)
        self.assertIn("Toy Story 2", reply["films"])
        self.assertEqual(reply["unknown"], ["No Such Film"])
        self.assertIn("Alien", "".join(self.run_program("recommend/ask.py", "Aliens")))


class ReadmeTest(SdkCase):
    def test_every_example_is_in_the_table(self) -> None:
        table = (EXAMPLES / "README.md").read_text()
        for folder in EXAMPLES.iterdir():
            if folder.is_dir() and not folder.name.startswith("_"):
                self.assertIn(f"`{folder.name}/`", table)
                self.assertTrue((folder / "README.md").exists())
