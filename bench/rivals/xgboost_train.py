"""What somebody would write without Mayfly: a table in NumPy's format in, a model out, with the XGBoost library alone.

    xgboost_train.py FOLDER THREADS PARAMETERS

FOLDER has {train,valid,test}.npy, the label in the last column; PARAMETERS is the library's, as JSON, and "rounds".
Prints the AUC of the test rows.
"""

import json
import sys
from pathlib import Path

import numpy as np
import xgboost

folder, threads, parameters = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
rounds = parameters.pop("rounds")
train, valid, test = (np.load(folder / f"{split}.npy") for split in ("train", "valid", "test"))
booster = xgboost.train(
    {"objective": "binary:logistic", "eval_metric": "auc", "tree_method": "hist", "nthread": threads, **parameters},
    xgboost.DMatrix(train[:, :-1], train[:, -1]),
    rounds,
    evals=[(xgboost.DMatrix(valid[:, :-1], valid[:, -1]), "valid")],
    verbose_eval=False,
)
print(booster.eval(xgboost.DMatrix(test[:, :-1], test[:, -1])))
booster.save_model(folder / "model.json")
