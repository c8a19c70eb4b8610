"""Batching: 64 clients with binary tensors and rows that differ, beside the same model with other settings.

Every setting is a function of its own on one node, so that windows alternate within one run. `auto` has met the load
before it is measured: what is measured is where it ends.
"""

from __future__ import annotations

import json

import numpy as np
from harness import wrk
from harness.context import Context
from harness.pairs import Figures, measure_pairs
from harness.records import Report, at_least, at_most
from harness.statistics import p50
from harness.workload import MODELS as FOLDERS
from harness.workload import TINY, Workload, write_workload

BOUND_BY_MEMORY = "mlp64m"
MODELS = (*TINY, BOUND_BY_MEMORY)

CLIENTS = 64
SECONDS = 2
LEARNING_SECONDS = 6
BODIES = 32
SAMPLES = 1000  # at one client, a window
# Of a sweep; "off" is one of its settings.
SWEEP = {"off": "off", "8": "8", "32": "32"}


def run(context: Context, report: Report) -> None:
    for model in MODELS:
        loads = [_rows(context, model, seed) for seed in range(BODIES)]
        settings = SWEEP if model in TINY else {"off": "off"}
        for setting in (*settings, "auto"):
            _deploy(context, model, setting)
        script = wrk.binary_script(context.scratch, model, loads)
        _rate(context, model, "auto", script, LEARNING_SECONDS)
        series = measure_pairs(
            context.account,
            {
                setting: lambda s=setting: _rate(context, model, s, script, SECONDS)
                for setting in (*settings, "auto")
            },
            until=context.repeat_until,
        )
        best = max(settings, key=lambda s: series.value(s, "rate"))
        report.paired(
            model,
            f"{CLIENTS} clients",
            series,
            value=series.value("auto", "rate"),
            unit="1/s",
            rival=f"max_batch = {best}",
            rival_value=series.value(best, "rate"),
            ratio=lambda f, b=best: f["auto"]["rate"] / f[b]["rate"],
            target=at_least(0.9 if model in TINY else 4.0),
        )
        single = measure_pairs(
            context.account,
            {s: lambda s=s: _latency(context, model, s, loads[0]) for s in ("off", "auto")},
            until=context.repeat_until,
        )
        report.paired(
            model,
            "1 client, p50",
            single,
            value=single.value("auto", "p50"),
            unit="us",
            rival="max_batch = off",
            rival_value=single.value("off", "p50"),
            ratio=lambda f: f["auto"]["p50"] / f["off"]["p50"],
            target=at_most(1.1),
        )


def _rows(context: Context, model: str, seed: int) -> Workload:
    """One row near the example's."""
    example = json.loads((FOLDERS / model / "example.json").read_text())
    rng = np.random.default_rng(seed)
    tensors = []
    for given in example["inputs"]:
        row = np.asarray(given["data"], np.float64).reshape(given["shape"])[:1]
        row = row * rng.uniform(0.5, 1.5, row.shape)
        tensors.append(given | {"shape": list(row.shape), "data": row.ravel().tolist()})
    return write_workload(model, tensors, context.scratch, f"{model}-{seed}")


def _name(model: str, setting: str) -> str:
    return f"{model}-batch-{setting}"


def _deploy(context: Context, model: str, setting: str) -> None:
    name = _name(model, setting)
    folder = str(FOLDERS / model)
    context.node.cli("deploy", name, folder, "--set", f"max_batch={setting}")
    context.node.configure(name, idle_timeout="1h", template_timeout="1h", keep_warm="true")


def _url(context: Context, model: str, setting: str) -> str:
    return f"/v2/models/{_name(model, setting)}/infer"


def _rate(context: Context, model: str, setting: str, script, seconds: int) -> Figures:
    url = f"http://127.0.0.1:{context.node.port}{_url(context, model, setting)}"
    return {"rate": wrk.requests_per_second(url, script, CLIENTS, seconds)}


def _latency(context: Context, model: str, setting: str, load: Workload) -> Figures:
    count = SAMPLES if model in TINY else SAMPLES // 20
    taken = context.tool(
        "http_latency",
        *("--port", context.node.port, "--path", _url(context, model, setting)),
        *("--body", load.binary_body, *load.binary_arguments(), "--count", count),
    )
    return {"p50": p50(taken["us"])}
