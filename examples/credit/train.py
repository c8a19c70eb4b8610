"""Trains a scorer of credit applications and deploys it, from Python: the estimator itself is what is handed over."""

from __future__ import annotations

from data import load
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBClassifier

import mayfly

learned, others, truth, others_truth = load()
columns = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include=object)),
    (SimpleImputer(strategy="median"), make_column_selector(dtype_include="number")),
)
scorer = make_pipeline(columns, XGBClassifier(n_estimators=150, max_depth=3, learning_rate=0.1))
scorer.fit(learned, truth)
auc = roc_auc_score(others_truth, scorer.predict_proba(others)[:, 1])
print(f"{len(learned)} applications learned; AUC of {len(others)} others: {auc:.3f}")

deployed = mayfly.deploy("credit", scorer, example=learned)
print(f"{deployed.function}@{deployed.version} is serving")
