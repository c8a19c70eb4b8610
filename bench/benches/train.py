"""A training of a minute, beside the library alone; and how soon a training is at work.

Both sides train as many trees of the same depth on as many rows with as many threads, hold out as many, and score the
rest. Mayfly does it in a jail, in slices, with checkpoints, proves that the exported graph says the same, and its time is
from the request to the end of the job. The rival is bench/rivals/xgboost_train.py. The second figure is from the
request to the first word of a trial, of a snapshot that is stored, beside a process that imports what it would train with.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time

import numpy as np

from harness import rivals
from harness.context import BenchNode, Context, CouldNotRun
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_most

MODELS = ()

ROWS, COLUMNS = 640_000, 28
TREES = {"rounds": 3300, "max_depth": 6, "eta": 0.05, "subsample": 1.0, "colsample_bytree": 1.0}
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
THREADS = os.cpu_count() or 1
PAIRS = 3
PATIENCE = 300.0
IMPORT = "import xgboost, sklearn"


def run(context: Context, report: Report) -> None:
    folder = context.scratch / "train"
    folder.mkdir()
    table = _table()
    np.savez(folder / "rows.npz", x=table[:, :-1], y=table[:, -1].astype(np.int64))
    cut = np.cumsum([int(share * ROWS) for share in SHARES.values()])
    for split, rows in zip(SHARES, np.split(table, cut[:-1]), strict=True):
        np.save(folder / f"{split}.npy", rows)
    python = str(rivals.bench_python())
    node = context.fresh_node("--jobs-memory", "4GiB")
    node.cli("data", "put", "rows", str(folder / "rows.npz"), "--target", "y")
    node.cli("data", "put", "few", str(_few(folder, table)), "--target", "y")
    _soon(context, report, node, python)
    mayfly, library = _models(), _models()
    series = measure_pairs(
        context.account,
        {
            "mayfly": lambda: _train(node, "rows", next(mayfly) | {"early_stop": 0}),
            "library": lambda: _library(python, folder, next(library)),
        },
        until=time.monotonic(),
        pairs=PAIRS,
    )
    report.paired(
        "xgboost", f"{ROWS:,} rows, {TREES['rounds']} trees", series,
        value=series.value("mayfly", "seconds"), unit="s",
        rival="the library", rival_value=series.value("library", "seconds"),
        ratio=lambda f: f["mayfly"]["seconds"] / f["library"]["seconds"], target=at_most(1.10),
    )
    context.close_node(node)


def _models():
    """Parameters, each a little other than the ones before: a model that is known is not compiled again."""
    return ({**TREES, "eta": TREES["eta"] + 1e-4 * count} for count in itertools.count())


def _table() -> np.ndarray:
    """A label that trees can learn, not all at once: products of columns, and noise."""
    random = np.random.default_rng(7)
    x = random.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    score = x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] + np.sin(2 * x[:, 4]) + 0.5 * x[:, 5] + random.logistic(size=ROWS)
    return np.column_stack([x, (score > 0).astype(np.float32)])


def _write_csv(path, table: np.ndarray) -> None:
    names = [*(f"x{i}" for i in range(COLUMNS)), "y"]
    np.savetxt(path, table, fmt=["%.7g"] * COLUMNS + ["%d"], delimiter=",", header=",".join(names), comments="")


def _few(folder, table: np.ndarray):
    _write_csv(folder / "few.csv", table[:1000])
    return folder / "few.csv"


def _begin(node: BenchNode, data: str, params: dict) -> str:
    wish = {"data": data, "target": "y", "task": "binary", "params": params, "threads": THREADS, "seed": 7,
            "baseline": False, "deploy": False}
    return json.loads(node.api("POST", "/api/v1/functions/trained/trainings", wish))["id"]


def _job(node: BenchNode, job: str) -> dict:
    return json.loads(node.api("GET", f"/api/v1/jobs/{job}"))


def _train(node: BenchNode, data: str, params: dict) -> Figures:
    begun = time.monotonic()
    job = _begin(node, data, params)
    while "ended" not in (shown := _job(node, job)):
        if time.monotonic() - begun > PATIENCE:
            raise CouldNotRun(f"the training does not end: {shown}")
        time.sleep(0.05)
    if shown["state"] != "done":
        raise CouldNotRun(f"the training failed: {shown}")
    return {"seconds": time.monotonic() - begun}


def _library(python: str, folder, params: dict) -> Figures:
    begun = time.monotonic()
    command = [python, "bench/rivals/xgboost_train.py", str(folder), str(THREADS), json.dumps(params)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise CouldNotRun(f"the library: {done.stderr.decode()[-500:]}")
    return {"seconds": time.monotonic() - begun}


def _soon(context: Context, report: Report, node: BenchNode, python: str) -> None:
    _train(node, "few", {"rounds": 20})  # what is read once is in the page cache, of both sides
    _imported(python)
    series = measure_pairs(
        context.account,
        {"mayfly": lambda: _first_word(node), "python3": lambda: _imported(python)},
        until=context.repeat_until,
    )
    report.paired(
        "xgboost", "a trial at work", series,
        value=series.value("mayfly", "ms"), unit="ms",
        rival="python3, imports", rival_value=series.value("python3", "ms"),
        ratio=lambda f: f["mayfly"]["ms"] / f["python3"]["ms"], target=at_most(0.05),
    )


def _first_word(node: BenchNode) -> Figures:
    begun = time.monotonic()
    job = _begin(node, "few", {"rounds": 20})
    parts = f"/api/v1/jobs?parent={job}"
    while not any(part.get("progress", {}).get("text") for part in json.loads(node.api("GET", parts))["jobs"]):
        if time.monotonic() - begun > PATIENCE:
            raise CouldNotRun("no trial begins")
        time.sleep(0.001)  # a client that asks without a break takes a processor from the node
    taken = (time.monotonic() - begun) * 1e3
    while "ended" not in _job(node, job):
        time.sleep(0.01)
    return {"ms": taken}


def _imported(python: str) -> Figures:
    begun = time.monotonic()
    subprocess.run([python, "-c", IMPORT], check=True, capture_output=True, timeout=PATIENCE)
    return {"ms": (time.monotonic() - begun) * 1e3}
