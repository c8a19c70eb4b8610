"""The applications, cut into those that are learned from and those that are asked about."""

from __future__ import annotations

from pathlib import Path

import pandas
from sklearn.model_selection import train_test_split

FILE = Path(__file__).resolve().parents[2] / "build" / "examples" / "credit" / "applications.csv"
SEED = 20260101


def load() -> tuple[pandas.DataFrame, pandas.DataFrame, pandas.Series, pandas.Series]:
    """Learned applications, others, and for each whether it went well."""
    frame = pandas.read_csv(FILE)
    numbers = frame.select_dtypes("number").columns
    frame[numbers] = frame[numbers].astype("float32")
    good = frame.pop("status") == "good"
    return train_test_split(frame, good.astype(int), test_size=0.2, random_state=SEED)
