#!/usr/bin/env python3
"""Runs the end-to-end tests against a built node and ends with one line: N passed, N failed.

    PRESET=release .deps/venv/bin/python tests/e2e/run.py [--soak] [PATTERN ...]     PATTERN: part of a test's name

With --soak those that take many minutes (`*_soak.py`), and no others.

Generates the models the tests deploy when they are missing.

A class of tests that fails is run once more at the end. What passes then failed for the sake of a busy machine or of a race: it
is listed as unsteady, and is to be mended, but does not fail the run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import unittest
from pathlib import Path

FEW = 5  # failures beyond which the code is to blame, not the moment
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
    patterns = sys.argv[1:]
    soak = "--soak" in patterns
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{pattern}*" for pattern in patterns if pattern != "--soak"] or None
    suite = loader.discover(str(HERE), pattern="*_soak.py" if soak else "*_test.py", top_level_dir=str(HERE))
    started = time.monotonic()
    result = run(suite)
    unsteady: set[str] = set()
    failed = problems(result)
    if 0 < failed <= FEW and not loader.errors:
        classes = failed_classes(result)
        print(f"once more: {', '.join(sorted(classes))}", flush=True)
        failed = problems(run(loader.loadTestsFromNames(sorted(classes))))
        unsteady = classes if not failed else set()
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    print(f"end-to-end tests: {time.monotonic() - started:.0f} s")
    if unsteady:
        print(f"UNSTEADY, failed and then passed: {', '.join(sorted(unsteady))}")
    print(f"{result.passed + (problems(result) - failed)} passed, {failed} failed{skipped}")
    return 1 if failed or loader.errors or not result.testsRun else 0


def run(suite: unittest.TestSuite) -> Result:
    return unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)


def problems(result: Result) -> int:
    return len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)


def failed_classes(result: Result) -> set[str]:
    """As `module.Class`. What fails while a class is set up is no test, and names its class in brackets."""
    classes = set()
    for test, _ in [*result.failures, *result.errors]:
        test = getattr(test, "test_case", test)  # of a subtest
        holder = re.fullmatch(r"\w+ \((\w+\.\w+)\)", test.id())
        classes.add(holder[1] if holder else ".".join(test.id().split(".")[:2]))
    return classes


if __name__ == "__main__":
    sys.exit(main())
