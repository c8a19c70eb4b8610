#!/usr/bin/env python3
"""Measures Mayfly against its rivals and prints a table.

    .deps/venv/bin/python bench/run.py --bin build/release/bin [--only "start cold"] [--json FILE]

Exits 0 also when a target is missed; 1 when a bench could not run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import records, workload
from harness.context import Context, CouldNotRun, make_scratch

NAMES = ("start", "cold", "cold_large", "disk", "hot", "python", "batch", "shadow", "beside", "batch_file", "heavy", "request", "connections", "density", "baseline", "meter", "train", "search")


def main() -> int:
    options = parse_options()
    benches = {name: importlib.import_module(f"benches.{name}") for name in options.only}
    workload.generate(sorted({model for bench in benches.values() for model in bench.MODELS}))
    scratch = make_scratch()
    context = Context(options.bin.resolve(), scratch)
    found: list[records.Record] = []
    failed = 0
    try:
        for name, bench in benches.items():
            report = records.Report(name)
            failed += not run_bench(name, bench, context, report)
            found += report.records
    finally:
        context.close()
        shutil.rmtree(scratch, ignore_errors=True)
    print(records.table(found))
    missed = sum(record.met is False for record in found)
    print(f"\n{len(found)} figures, {missed} targets missed, {failed} benches could not run")
    if options.json:
        options.json.write_text(json.dumps(records.as_json(found), indent=1) + "\n")
    return 1 if failed else 0


def run_bench(name: str, bench, context: Context, report: records.Report) -> bool:
    print(f"{name}: {bench.__doc__.splitlines()[0]}", file=sys.stderr, flush=True)
    context.begin()
    try:
        bench.run(context, report)
    except (CouldNotRun, AssertionError, OSError, subprocess.SubprocessError) as problem:
        print(f"{name}: could not run: {problem}\n{context.epitaphs()}", file=sys.stderr)
        return False
    print(f"{name}: {context.elapsed():.0f} s", file=sys.stderr, flush=True)
    return True


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", type=str.split, default=list(NAMES), metavar='"NAME ..."')
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    for name in options.only:
        if name not in NAMES:
            parser.error(f"no bench is named {name}; there are {', '.join(NAMES)}")
    if not (options.bin / "mayfly").exists():
        parser.error(f"there is no {options.bin / 'mayfly'}; build it first")
    return options


if __name__ == "__main__":
    sys.exit(main())
