#!/usr/bin/env python3
"""Makes the tables that the demo, the accuracy tests and the benchmarks train on, taken from packages.

    .deps/venv/bin/python scripts/make_datasets.py DIR [NAME ...]

credit (German credit, 1,000 rows) and baskets (4,627 of a supermarket) come with Debian's `weka`, diamonds (53,940 rows)
with the wheel of plotnine, cancer, digits and wine with scikit-learn. What is there already is left alone; an interrupted run leaves
no half-made file behind.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

WEKA = "58ea5ec3b42ca9719be5756d1bd64ebed0e69d16d6fffa200b3cebf4ccccab16"
PLOTNINE = "36f4526235b3ddd9ea379dd677093ea2ee1b58ab98adec1bde891930283448cd"


def checked(path: Path, digest: str) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest:
        raise SystemExit(f"make_datasets: {path.name} is {found}, not the {digest} that is expected")
    return path


def weka(scratch: Path, name: str) -> str:
    subprocess.run(["apt-get", "-qq", "download", "weka=3.6.14-3", "-o", "APT::Sandbox::User=root"], cwd=scratch, check=True)
    package = checked(next(scratch.glob("weka_*.deb")), WEKA)
    subprocess.run(["dpkg", "-x", package, scratch], check=True)
    return (scratch / "usr/share/doc/weka/examples" / name).read_text("latin-1")


def write(target: Path, header: Iterable[str], rows: Iterable[Iterable]) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def credit(target: Path, scratch: Path) -> None:
    target.write_text(weka(scratch, "credit-g.arff"), "utf-8")


def baskets(target: Path, scratch: Path) -> None:
    """A line for each thing that a basket has in it."""
    head, _, data = weka(scratch, "supermarket.arff").partition("@data")
    names = re.findall(r"@attribute '([^']+)' \{ *t *\}", head)
    rows = (line.split(",") for line in data.split("\n") if line.strip() and not line.startswith("%"))
    write(target, ["basket", "item"],
          ([number, name] for number, row in enumerate(rows) for name, value in zip(names, row) if value == "t"))


def diamonds(target: Path, scratch: Path) -> None:
    """In an order that has nothing to do with their prices: the first half is like the second."""
    subprocess.run([sys.executable, "-m", "pip", "-q", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.13",
                    "-d", scratch, "plotnine==0.15.9"], check=True)
    with zipfile.ZipFile(checked(next(scratch.glob("plotnine-*.whl")), PLOTNINE)) as wheel:
        header, *rows = csv.reader(wheel.read("plotnine/data/diamonds.csv").decode().splitlines())
    random.Random(7).shuffle(rows)
    write(target, header, rows)


def of_sklearn(load: str, label: str) -> Callable[[Path, Path], None]:
    def make(target: Path, _scratch: Path) -> None:
        import sklearn.datasets  # late: it takes a second

        data = getattr(sklearn.datasets, load)()
        names = [name.replace(" ", "_") for name in data.feature_names]
        write(target, [*names, label],
              ([*map(float, row), data.target_names[kind]] for row, kind in zip(data.data, data.target, strict=True)))

    return make


DATASETS = {
    "credit.arff": credit,
    "baskets.csv": baskets,
    "diamonds.csv": diamonds,
    "cancer.csv": of_sklearn("load_breast_cancer", "diagnosis"),
    "digits.csv": of_sklearn("load_digits", "digit"),
    "wine.csv": of_sklearn("load_wine", "cultivar"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes tables to train on, taken from packages.")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"all of {', '.join(DATASETS)}, unless some are named")
    wanted = parser.parse_args()
    for name in wanted.names:
        if name not in DATASETS:
            parser.error(f"there is no '{name}'; there are {', '.join(DATASETS)}")
    wanted.folder.mkdir(parents=True, exist_ok=True)
    for name in wanted.names or DATASETS:
        target = wanted.folder / name
        if target.exists():
            continue
        with tempfile.TemporaryDirectory(dir=wanted.folder) as scratch:
            made = Path(scratch) / name
            DATASETS[name](made, Path(scratch))
            made.rename(target)
        print(f"{target}  {target.stat().st_size / 1e6:.1f} MB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
