#!/usr/bin/env python3
"""Generates the ONNX models that the tests, the demo and the benchmarks deploy.

    .deps/venv/bin/python scripts/make_models.py DIR                    everything but the 6 GB model
    .deps/venv/bin/python scripts/make_models.py DIR --only demo        a group: demo, test, bench, refused, huge
    .deps/venv/bin/python scripts/make_models.py DIR --only iris mlp6g  by name

Each model becomes DIR/NAME/. A model whose sources have not changed since it was made is left alone, so that a second
run takes a fraction of a second; an interrupted run leaves no half-made model behind.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "bench" / "models"


def main() -> int:
    options = parse_options()
    directory: Path = options.directory
    (directory / ".stamps").mkdir(parents=True, exist_ok=True)
    stamp = sources_digest()
    if not options.only and is_complete(directory, stamp):
        return 0
    sys.path.insert(0, str(SOURCES.parent))
    catalogue = importlib.import_module(
        "models.catalogue"
    )  # late: importing scikit-learn takes a second
    try:
        names = catalogue.select(options.only)
    except KeyError as unknown:
        print(
            f"make_models: no model or group {unknown}; there are {', '.join(catalogue.MODELS)}",
            file=sys.stderr,
        )
        return 2
    for name in names:
        make(name, catalogue.MODELS[name], directory, stamp)
    if not options.only:
        (directory / ".stamps" / ".all").write_text(stamp)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    return parser.parse_args()


def sources_digest() -> str:
    """Changes when a generator or a library it uses does."""
    digest = hashlib.sha256()
    for path in (*sorted(SOURCES.glob("*.py")), ROOT / "scripts" / "requirements.txt"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def is_complete(directory: Path, stamp: str) -> bool:
    complete = directory / ".stamps" / ".all"
    return complete.exists() and complete.read_text() == stamp


def make(name: str, recipe, directory: Path, stamp: str) -> None:
    """Fills a folder beside the final one, then swaps it in."""
    from models.folder import Folder

    target, stamp_file, scratch = (
        directory / name,
        directory / ".stamps" / name,
        directory / f".making-{name}",
    )
    if target.is_dir() and stamp_file.exists() and stamp_file.read_text() == stamp:
        return
    started = time.monotonic()
    for leftover in (scratch, target):
        shutil.rmtree(leftover, ignore_errors=True)
    stamp_file.unlink(missing_ok=True)
    scratch.mkdir()
    recipe.generate(Folder(scratch))
    scratch.rename(target)
    stamp_file.write_text(stamp)
    size = sum(path.lstat().st_size for path in target.iterdir())
    print(f"{name:20} {size / 1e6:9.3f} MB {time.monotonic() - started:6.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
