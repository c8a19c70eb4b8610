"""The models the benchmarks deploy, and one request to each in every form a side needs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "build" / "models"

TINY = ("logistic", "mlp1m", "gbdt")
CNN = "resnet50"
HUGE = "mlp1g"
LARGE = (CNN, HUGE)  # over 50 MB: fewer samples

_ELEMENTS = {"FP32": (1, np.float32), "INT64": (7, np.int64)}  # ONNX's number of the type, numpy's


@dataclass(frozen=True)
class Workload:
    """One row to one model."""

    model: str
    folder: Path  # what is deployed
    json_body: Path
    binary_body: Path
    binary_header: str  # the header that tells where the JSON of the binary body ends
    ort_inputs: tuple[str, ...]  # --input arguments of the rivals

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def large(self) -> bool:
        return self.model in LARGE

    def request_arguments(self) -> list[str]:
        """For http_latency: JSON, but binary tensors where JSON would cost more than the model."""
        if not self.large:
            return ["--body", str(self.json_body)]
        return ["--body", str(self.binary_body), *self.binary_arguments()]

    def binary_arguments(self) -> list[str]:
        return ["--header", self.binary_header, "--header", "Content-Type: application/octet-stream"]

    def ort_arguments(self) -> list[str]:
        return [part for text in self.ort_inputs for part in ("--input", text)]


def generate(names: list[str]) -> None:
    if not names:
        return
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "scripts" / "make_models.py"),
            str(MODELS),
            "--only",
            *names,
        ],
        check=True,
        stdout=sys.stderr,
    )


def prepare(model: str, scratch: Path, rows: int = 1) -> Workload:
    """Writes the requests to `scratch`. The example's first row is repeated `rows` times."""
    folder = MODELS / model
    example = json.loads((folder / "example.json").read_text())
    tensors = [_rows_of(tensor, rows) for tensor in example["inputs"]]
    return write_workload(model, tensors, scratch, f"{model}-{rows}")


def write_workload(model: str, tensors: list[dict], scratch: Path, stem: str) -> Workload:
    json_body = scratch / f"{stem}.json"
    json_body.write_text(json.dumps({"inputs": tensors}, separators=(",", ":")))
    arguments, raw, described = [], [], []
    for tensor in tensors:
        number, element = _ELEMENTS[tensor["datatype"]]
        content = np.asarray(tensor["data"], element).tobytes()
        file = scratch / f"{stem}-{tensor['name']}.bin"
        file.write_bytes(content)
        shape = "x".join(map(str, tensor["shape"]))
        arguments.append(f"{tensor['name']},{number},{shape},{file}")
        raw.append(content)
        head = {key: tensor[key] for key in ("name", "datatype", "shape")}
        described.append(head | {"parameters": {"binary_data_size": len(content)}})
    header = json.dumps(
        {"inputs": described, "parameters": {"binary_data_output": True}}, separators=(",", ":")
    ).encode()
    binary_body = scratch / f"{stem}.infer"
    binary_body.write_bytes(header + b"".join(raw))
    return Workload(
        model=model,
        folder=MODELS / model,
        json_body=json_body,
        binary_body=binary_body,
        binary_header=f"Inference-Header-Content-Length: {len(header)}",
        ort_inputs=tuple(arguments),
    )


def _rows_of(tensor: dict, rows: int) -> dict:
    values = np.asarray(tensor["data"], object).reshape(tensor["shape"])
    chosen = np.repeat(values[:1], rows, axis=0)
    return tensor | {"shape": list(chosen.shape), "data": chosen.ravel().tolist()}
