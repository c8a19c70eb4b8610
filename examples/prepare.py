#!/usr/bin/env python3
"""Makes what the examples deploy and ask about: models and real data, taken from packages, into build/examples/NAME.

    .deps/sdk-venv/bin/python examples/prepare.py [NAME ...]     make examples

Each example that has a make.py becomes a folder. One whose sources have not changed since is left alone; an interrupted
run leaves no half-made folder behind.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "examples"
REQUIREMENTS = HERE.parent / "scripts" / "requirements-sdk.txt"


def main() -> int:
    recipes = {path.parent.name: path for path in sorted(HERE.glob("*/make.py"))}
    unknown = set(sys.argv[1:]) - recipes.keys()
    if unknown:
        print(f"prepare: no {unknown.pop()}; there are {', '.join(recipes)}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(HERE))  # for packages.py
    for name in sys.argv[1:] or recipes:
        prepare(name, recipes[name])
    return 0


def prepare(name: str, recipe: Path) -> None:
    target, scratch, stamp = BUILD / name, BUILD / f".making-{name}", BUILD / f".{name}.stamp"
    sources = digest(recipe, HERE / "packages.py", REQUIREMENTS)
    if target.is_dir() and stamp.exists() and stamp.read_text() == sources:
        return
    started = time.monotonic()
    for leftover in (scratch, target):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch.mkdir(parents=True)
    spec = importlib.util.spec_from_file_location(f"make_{name}", recipe)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(scratch)
    scratch.rename(target)
    stamp.write_text(sources)
    print(f"build/examples/{name:12} {time.monotonic() - started:5.1f} s", flush=True)


def digest(*sources: Path) -> str:
    total = hashlib.sha256()
    for path in sources:
        total.update(path.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
