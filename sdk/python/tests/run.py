#!/usr/bin/env python3
"""Runs the SDK's tests against a built node and ends with one line: N passed, N failed.

    PRESET=release .deps/sdk-venv/bin/python sdk/python/tests/run.py [PATTERN ...]     PATTERN: part of a test's name

What is tested is the package as it is installed: it is built from the tree into build/sdk first, and type-checked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
ROOT = PACKAGE.parents[1]
INSTALLED = ROOT / "build" / "sdk"


class Result(unittest.TextTestResult):
    """Counts what passed: a class that cannot be set up fails beside its tests."""

    passed = 0

    def addSuccess(self, test) -> None:
        super().addSuccess(test)
        self.passed += 1


def install() -> None:
    """As `pip install ./sdk/python` does, without a network and into a folder of its own."""
    source = ROOT / "build" / "sdk-source"  # setuptools writes beside what it builds
    for folder in (source, INSTALLED):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(INSTALLED), str(source)], check=True)


def main() -> int:
    install()
    if not sys.argv[1:]:
        subprocess.run([sys.executable, "-m", "mypy"], cwd=PACKAGE, check=True)
    sys.path[:0] = [str(HERE), str(INSTALLED)]
    os.environ["PYTHONPATH"] = str(
        INSTALLED
    )  # of the examples, which are run as their own programs
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{pattern}*" for pattern in sys.argv[1:]] or None
    suite = loader.discover(str(HERE), pattern="*_test.py", top_level_dir=str(HERE))
    started = time.monotonic()
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result, warnings="ignore").run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    print(f"tests of the Python SDK: {time.monotonic() - started:.0f} s")
    print(f"{result.passed} passed, {failed} failed{skipped}")
    return 1 if failed or loader.errors or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
