"""Deploying: what is refused and why, versions, and the models that misbehave while they are published."""

from __future__ import annotations

import threading

from case import NodeCase
from node import MODELS, tensor, variant

# model -> a word or two that the refusal must contain: the thing at fault, and the mend where there is one.
REFUSALS = {
    "sequence_output": ("parts", "sequence"),
    "sequence_input": ("parts", "sequence"),
    "optional_input": ("maybe", "optional"),
    "optional_output": ("maybe", "optional"),
    "map_input": ("row", "map"),
    "custom_op": ("com.example", "Frobnicate"),
    "unknown_op": ("Frobnicate",),
    "cycle": ("cycl",),
    "undefined_input": ("nowhere",),
    "no_outputs": ("output",),
    "type_mismatch": ("Add",),
    "opset_too_new": ("999",),
    "external_escape": ("etc/passwd",),
    "external_absolute": ("/etc/passwd",),
    "external_symlink": ("weights.bin",),
    "external_missing": ("weights.bin",),
    "external_short": ("weights.bin",),
    "empty": ("model.onnx",),
    "truncated": ("model.onnx",),
    "garbage": ("model.onnx",),
    "sklearn_pickle": ("pickle", "skl2onnx"),
    "pytorch_zip": ("PyTorch", "torch.onnx"),
    "keras_h5": ("Keras", "tf2onnx"),
    "unknown_setting": ("replicas",),
    "no_model": ("onnx",),
    "crash_on_load": ("crashed",),
    "hang": ("3s",),
    "greedy": ("memory",),
}
ONE = tensor("x", "FP32", [1], [1])


class RefusalTest(NodeCase):
    functions = {"neighbour": "adder"}

    def test_each_bad_model_is_refused_with_the_problem_and_the_mend(self) -> None:
        for model, words in REFUSALS.items():
            with self.subTest(model):
                done = self.node.cli("deploy", "bad", str(MODELS / model), check=False)
                message = (done.stdout + done.stderr).decode()
                self.assertNotEqual(done.returncode, 0, message)
                for word in words:
                    self.assertIn(word.lower(), message.lower())
                self.assertEqual(self.node.infer("bad", ONE).status, 404)
                reply = self.node.example("neighbour", "adder")
                self.assertServed(reply)

    def test_a_file_given_alone_is_refused_like_a_folder(self) -> None:
        for path in (
            MODELS / "sklearn_pickle" / "model.pkl",
            MODELS / "keras_h5" / "model.h5",
            MODELS / "nowhere.onnx",
        ):
            self.assertNotEqual(
                self.node.cli("deploy", "bad", str(path), check=False).returncode, 0
            )

    def test_unfit_names_are_refused(self) -> None:
        for name in ("Fraud", "-fraud", "a/b", "a" * 64, "", "a@1"):
            self.assertNotEqual(
                self.node.cli("deploy", "--", name, str(MODELS / "adder"), check=False).returncode,
                0,
                name,
            )

    def test_settings_out_of_range_name_themselves(self) -> None:
        for text, word in (
            ("threads = 0", "threads"),
            ('isolation = "none"', "isolation"),
            ("memory = 1", "memory"),
            ('timeout = "soon"', "timeout"),
            ("threads = [", "mayfly.toml"),
        ):
            done = self.node.cli(
                "deploy", "bad", str(variant(self.folder, "adder", text)), check=False
            )
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(word, (done.stdout + done.stderr).decode())


    def test_the_most_threads_that_a_version_may_have_can_be_published(self) -> None:
        self.node.cli("deploy", "threads", str(MODELS / "adder"), "--set", "threads=64")


class VersionTest(NodeCase):
    def test_versions_count_up_and_stay_addressable(self) -> None:
        self.node.deploy("f", "identity_fp32")
        self.node.deploy("f", "adder")
        self.assertEqual(sorted(self.node.versions("f")), [1, 2])
        self.assertServed(
            self.node.infer("f", tensor("a", "FP32", [1], [1]), tensor("b", "FP32", [1], [1]))
        )
        for path in ("/v2/models/f@1/infer", "/v2/models/f/versions/1/infer"):
            reply = self.node.post_json(path, {"inputs": [ONE]})
            self.assertServed(reply)
            self.assertEqual(reply.headers["Mayfly-Version"], "1")

    def test_a_swap_loses_no_request(self) -> None:
        self.node.deploy("swapped", "identity_fp32")
        done, bad = threading.Event(), []

        def ask() -> None:
            while not done.is_set():
                reply = self.node.infer("swapped", ONE)
                if reply.status != 200 or reply.output("y") != [1]:
                    bad.append(reply.body)

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            for _ in range(5):
                self.node.deploy("swapped", "identity_fp32")
        finally:
            done.set()
            for asker in askers:
                asker.join()
        self.assertEqual(bad, [])

    def test_a_deleted_function_is_gone_and_recent_traffic_asks_for_yes(self) -> None:
        self.node.deploy("doomed", "identity_fp32")
        self.assertServed(self.node.infer("doomed", ONE))
        self.assertNotEqual(self.node.cli("delete", "doomed", check=False).returncode, 0)
        self.node.cli("delete", "doomed", "--yes")
        self.assertRefused(self.node.infer("doomed", ONE), 404, "unknown_function")

    def test_collecting_garbage_keeps_what_serves(self) -> None:
        self.node.deploy("kept", "adder")
        self.node.deploy("dropped", "mlp1m")
        self.node.cli("delete", "dropped", "--yes")
        self.node.cli("gc", "--dry-run")
        self.node.cli("gc")
        self.assertServed(self.node.example("kept", "adder"))
