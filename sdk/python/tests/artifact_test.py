"""What `deploy` is given, as files and options."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

import sdk_case  # noqa: F401
from mayfly import InvalidArgument, MissingPackage
from mayfly._artifact import read_artifact
from mayfly._convert import _need


class ArtifactTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, path: str, text: str = "x") -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def test_a_folder_is_all_of_its_files_and_the_options_of_its_toml(self) -> None:
        self.write("mayfly.toml", 'timeout = "5s"\npreferred_batch = [4, 8]\n')
        self.write("model.onnx")
        self.write("data/weights.bin")
        self.write("data/mayfly.toml")  # only the one at the top is ours
        artifact = read_artifact(self.folder, None, {"timeout": "9s", "threads": 2})
        paths = sorted(file.path for file in artifact.files)
        self.assertEqual(paths, ["data/mayfly.toml", "data/weights.bin", "model.onnx"])
        self.assertEqual(
            artifact.options, {"timeout": "9s", "preferred_batch": [4, 8], "threads": 2}
        )
        self.assertEqual(artifact.files[0].digest(), hashlib.sha256(b"x").hexdigest())

    def test_what_cannot_be_an_artifact_is_refused(self) -> None:
        self.write("broken/mayfly.toml", "= 1")
        self.write("linked/model.onnx")
        (self.folder / "linked" / "link").symlink_to("model.onnx")
        self.write("linked_folder/model.onnx")
        (self.folder / "linked_folder" / "link").symlink_to(self.folder / "linked")
        (self.folder / "empty").mkdir()
        for name, text in (
            ("broken", "mayfly.toml"),
            ("linked", "symbolic links"),
            ("linked_folder", "symbolic links"),
            ("empty", "empty"),
            ("absent", "no such file"),
        ):
            with self.subTest(name), self.assertRaisesRegex(InvalidArgument, text):
                read_artifact(self.folder / name, None, None)
        with self.assertRaisesRegex(InvalidArgument, "empty"):
            read_artifact(b"", None, None)

    def test_an_example_replaces_the_folders_own(self) -> None:
        self.write("model.onnx")
        self.write("example.json", "{}")
        artifact = read_artifact(str(self.folder), {"x": np.ones((1, 2), "f4")}, None)
        (file,) = [file for file in artifact.files if file.path == "example.json"]
        self.assertEqual(json.loads(file.content), {"x": [[1.0, 1.0]]})

    def test_a_package_that_is_missing_is_named(self) -> None:
        with self.assertRaisesRegex(
            MissingPackage, "(?s)no_such_package.*pip install no_such_package"
        ) as c:
            _need("no_such_package", "to do this")
        self.assertIsInstance(c.exception, ImportError)
        self.write("converter_of_this_test.py", "import no_such_package.part")
        with mock.patch.object(sys, "path", [str(self.folder), *sys.path]):
            with self.assertRaisesRegex(
                MissingPackage, "no_such_package is needed by converter_of"
            ):
                _need("converter_of_this_test", "to do this")


if __name__ == "__main__":
    unittest.main()
