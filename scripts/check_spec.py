#!/usr/bin/env python3
"""docs/spec.md names what holds each promise: every test, benchmark and file it names must exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "docs" / "spec.md"


def main() -> int:
    held_by = [
        cells[2]
        for line in SPEC.read_text().splitlines()
        if len(cells := line.split("|")) == 4 and not cells[2].strip().startswith(("Held by", "--"))
    ]
    missing = sorted({name for cell in held_by for name in unknown_in(cell)})
    for name in missing:
        print(f"docs/spec.md names {name}, which does not exist", file=sys.stderr)
    return 1 if missing else 0


def unknown_in(cell: str) -> list[str]:
    unknown = [name for name in re.findall(r'"([^"]+)"', cell) if name not in UNIT]
    unknown += [name for name in re.findall(r"`(test_\w+)`", cell) if name not in END_TO_END]
    unknown += [f"bench {name}" for name in re.findall(r"bench (\w+)", cell) if name not in BENCHES]
    unknown += [path for path in re.findall(r"[\w/]+_test\.(?:cc|py)", cell) if not has_file(path)]
    return unknown


def has_file(path: str) -> bool:
    return any((folder / path).exists() for folder in (ROOT, ROOT / "src", ROOT / "tests" / "e2e"))


def unit_tests() -> set[str]:
    """Names may be cut into several literals by the formatter."""
    found = set()
    for source in (ROOT / "src").rglob("*_test.cc"):
        cases = re.findall(r'TEST_CASE(?:_\w+)?\(\s*(?:\w+,\s*)?((?:"[^"]*"\s*)+)', source.read_text())
        found |= {"".join(re.findall(r'"([^"]*)"', case)) for case in cases}
    return found


UNIT = unit_tests()
END_TO_END = {
    name
    for pattern in ("*_test.py", "*_soak.py")
    for source in (ROOT / "tests" / "e2e").glob(pattern)
    for name in re.findall(r"def (test_\w+)", source.read_text())
}
BENCHES = {source.stem for source in (ROOT / "bench" / "benches").glob("*.py")}

if __name__ == "__main__":
    sys.exit(main())
