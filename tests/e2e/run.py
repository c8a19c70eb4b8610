#!/usr/bin/env python3
"""Runs the end-to-end tests against a built node and ends with one line: N passed, N failed.

    PRESET=release .deps/venv/bin/python tests/e2e/run.py [PATTERN ...]     PATTERN: part of a test's name

Generates the models the tests deploy when they are missing.
"""

from __future__ import annotations

import subprocess
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from node import BIN, MODELS, ROOT


class Result(unittest.TextTestResult):
    """Counts what passed: a class that cannot be set up or leaves something behind fails beside its tests."""

    passed = 0

    def addSuccess(self, test) -> None:
        super().addSuccess(test)
        self.passed += 1


def main() -> int:
    if not (BIN / "mayfly").exists():
        print(f"run: there is no {BIN / 'mayfly'}; build it first", file=sys.stderr)
        return 2
    subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_models.py"), str(MODELS), "--only", "test"],
        check=True,
    )
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{pattern}*" for pattern in sys.argv[1:]] or None
    suite = loader.discover(str(HERE), pattern="*_test.py", top_level_dir=str(HERE))
    started = time.monotonic()
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    print(f"end-to-end tests: {time.monotonic() - started:.0f} s")
    print(f"{result.passed} passed, {failed} failed{skipped}")
    return 1 if failed or loader.errors or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
