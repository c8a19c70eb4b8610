"""`cold` for models of 100 MB and 1 GB, whose artifacts are read before they predict."""

from __future__ import annotations

from benches import cold
from harness.context import Context
from harness.records import Report
from harness.workload import CNN, HUGE

TARGETS = {CNN: 0.25, HUGE: 0.10}
MODELS = tuple(TARGETS)


def run(context: Context, report: Report) -> None:
    for model, limit in TARGETS.items():
        cold.measure(context, report, model, limit)
