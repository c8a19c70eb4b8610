#!/usr/bin/env python3
"""Runs the generated models in ONNX Runtime and compares its answers with expected.json.

    python -m venv /tmp/ort && /tmp/ort/bin/pip install -r scripts/requirements.txt onnxruntime==1.31.1
    /tmp/ort/bin/python scripts/check_models.py build/models [NAME ...]

ONNX Runtime's Python package is no requirement of the project: this checks the generators, not Mayfly. Models that a
deploy must refuse are skipped.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the library is loaded

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from models import catalogue

NUMPY = {
    "BOOL": bool,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": object,
}  # the rest bear numpy's names


def main() -> int:
    directory, wanted = Path(sys.argv[1]), sys.argv[2:]
    names = [
        name
        for name in catalogue.select(wanted)
        if catalogue.REFUSED not in catalogue.MODELS[name].groups
    ]
    failed = 0
    for name in names:
        if not (directory / name).is_dir():
            print(f"{name:20} not generated")
            continue
        verdict = check(directory / name)
        failed += verdict.startswith("FAILED")
        print(f"{name:20} {verdict}", flush=True)
    print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


def check(folder: Path) -> str:
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    if not (folder / "example.json").exists():
        return "loads (no JSON form)"
    inputs = read_tensors(folder / "example.json")
    answers = dict(zip(names, session.run(names, inputs), strict=True))
    if not (folder / "expected.json").exists():
        return "runs"
    tolerance = json.loads((folder / "expected.json").read_text())["parameters"]["tolerance"]
    worst = 0.0
    for name, expected in read_tensors(folder / "expected.json").items():
        answer = as_tensor(answers[name])
        if answer.shape != expected.shape:
            return f"FAILED: {name} has shape {answer.shape}, expected {expected.shape}"
        worst = max(worst, difference(answer, expected))
    return (
        f"{'FAILED' if worst > tolerance else 'agrees'}: {worst:.1e} off, {tolerance:.0e} allowed"
    )


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    document = json.loads(path.read_text())
    return {
        entry["name"]: np.array(
            entry["data"], NUMPY.get(entry["datatype"], entry["datatype"].lower())
        ).reshape(entry["shape"])
        for entry in document.get("inputs", document.get("outputs"))
    }


def as_tensor(answer) -> np.ndarray:
    """What stands in front of a ZipMap, for a reply of maps; else the tensor itself."""
    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        return np.array([list(row.values()) for row in answer], np.float32)
    return np.asarray(answer)


def difference(answer: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference relative to the largest expected magnitude; 0 for equal text, 1 for different."""
    if expected.dtype == object or expected.dtype.kind in "iub":
        return 0.0 if np.array_equal(answer, expected) else 1.0
    if np.array_equal(answer, expected):
        return 0.0
    return float(np.abs(answer - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    sys.exit(main())
