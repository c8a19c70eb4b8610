"""What asynchronous halving finds, beside random search with as many and with twice as many trainings.

Both look their results up in a grid of 243 configurations that were all trained to the end once (grid/make.py), three
sets of data: mean regret over 200 searches, each with 27 trials drawn anew. No time is measured.
"""

from __future__ import annotations

from pathlib import Path

from harness.context import Context
from harness.records import Report, at_most

MODELS = ()

SETS = ("churn", "diamonds", "digits")
SEARCHES = 200
GRID = Path(__file__).resolve().parent.parent / "grid"


def run(context: Context, report: Report) -> None:
    beyond = []
    for name in SETS:
        found = context.tool("search_replay", "--table", GRID / f"{name}.csv", "--searches", SEARCHES)
        report.single(name, f"regret, {found['rounds']:.0f} rounds", value=found["halving"], unit="loss",
                      rival="random, as many", rival_value=found["random"], target=at_most(1.0))
        report.single(name, "regret", value=found["halving"], unit="loss",
                      rival="random, twice as many", rival_value=found["random_twice"])
        beyond.append(found["halving"] / found["random_twice"])
    report.single("best of them", "regret", value=min(beyond), unit="of random's, twice as many",
                  rival="", rival_value=1.0, target=at_most(1.0))
