"""A million rows of a CSV file through gradient-boosted trees, beside a program that does it in one process.

The rival reads and writes with the same code, in chunks of the same size, and runs one session with as many threads as
Mayfly takes instances. What Mayfly adds is a jail around the file, a jail around the model, a record of each chunk, and
the way between them. Its time is from the submission to the end of the job; the upload is not in it.
"""

from __future__ import annotations

import json
import os
import time

import numpy as np

from harness.context import Context
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least
from harness.workload import MODELS as FOLDERS

MODELS = ("gbdt",)

ROWS = 1_000_000
CHUNK = 8192
PATIENCE = 300


def run(context: Context, report: Report) -> None:
    name = context.hot_function("gbdt")
    about = context.node.cli_json("describe", name)
    source = context.scratch / "rows"
    source.mkdir()
    job = {
        "input": "input.csv",
        "format": "csv",
        "output_format": "csv",
        "inputs": about["inputs"],
        "outputs": about["outputs"],
        "chunk_rows": CHUNK,
        "window": os.cpu_count() or 1,
    }
    _write_rows(source / "input.csv", about["inputs"])
    (source / "job.json").write_text(json.dumps({"batch": job}))
    digest = _upload(context, source / "input.csv")
    published = context.published("gbdt")
    series = measure_pairs(
        context.account,
        {
            "mayfly": lambda: _batch(context, name, digest),
            "bare": lambda: _bare(context, published, source),
        },
        until=context.repeat_until,
    )
    report.paired(
        "gbdt",
        f"{ROWS:,} rows of CSV",
        series,
        value=series.value("mayfly", "rate"),
        unit="rows/s",
        rival="one process",
        rival_value=series.value("bare", "rate"),
        ratio=lambda f: f["mayfly"]["rate"] / f["bare"]["rate"],
        target=at_least(0.8),
    )


def _write_rows(path, inputs: list[dict]) -> None:
    width = sum(entry["shape"][1] if len(entry["shape"]) > 1 else 1 for entry in inputs)
    rows = np.random.default_rng(7).normal(size=(ROWS, width)).astype(np.float32)
    header = ",".join(f"c{i}" for i in range(width)) if len(inputs) == 1 else ",".join(
        entry["name"] for entry in inputs)
    np.savetxt(path, rows, fmt="%.5g", delimiter=",", header=header, comments="")


def _upload(context: Context, path) -> str:
    with path.open("rb") as file:
        connection = context.node.connect()
        connection.request("POST", "/api/v1/blobs", file,
                           {"Content-Length": str(path.stat().st_size)})
        return json.loads(connection.getresponse().read())["sha256"]


def _batch(context: Context, name: str, digest: str) -> Figures:
    begin = time.monotonic()
    reply = context.node.post_json(
        f"/api/v1/functions/{name}/jobs",
        {"kind": "batch", "input": {"sha256": digest}, "format": "csv", "output_format": "csv",
         "chunk_rows": CHUNK},
    )
    assert reply.status == 202, reply.body
    place = f"/api/v1/jobs/{reply.json()['id']}"
    while True:
        job = context.node.request("GET", place).json()
        taken = time.monotonic() - begin
        if job["state"] == "done":
            return {"rate": job["result"]["rows"] / taken}
        assert job["state"] in ("queued", "running") and taken < PATIENCE, job
        time.sleep(0.02)


def _bare(context: Context, published, source) -> Figures:
    taken = context.tool(
        "bare_batch",
        *("--library", context.onnxruntime),
        *published.ort_arguments(),
        *("--folder", source, "--job", source / "job.json", "--workers", os.cpu_count() or 1),
    )
    return {"rate": taken["rows"] / taken["wall_s"]}
