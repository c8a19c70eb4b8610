"""One model folder on disk, and the small pieces of ONNX every generator needs.

A folder holds what `mayfly deploy NAME FOLDER` takes: `model.onnx`, external data beside it, and `example.json`, an
Open Inference v2 request. `expected.json` is the v2 reply to that request, worked out without ONNX Runtime (by
scikit-learn, numpy or onnx.reference), so that a test compares two independent answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

OPSET = 17
IR_VERSION = 8  # what opset 17 was released with: read by every ONNX Runtime since 1.11

FREE = "n"  # the name of a free leading dimension

# Open Inference v2 datatype -> ONNX element type.
DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
    "BF16": TensorProto.BFLOAT16,
}

_NUMPY_TO_V2 = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}

Tensors = dict[str, np.ndarray]


def strings(values) -> np.ndarray:
    """A BYTES tensor."""
    return np.array(values, dtype=object)


def tensor_json(name: str, value: np.ndarray) -> dict:
    """A tensor as Open Inference v2 writes it: flat, row-major."""
    datatype = _NUMPY_TO_V2[value.dtype.name]
    # A float32 is written with the digits that identify it, not with those of the double it widens to.
    data = [float(str(v)) for v in value.ravel()] if datatype == "FP32" else value.ravel().tolist()
    return {"name": name, "shape": list(value.shape), "datatype": datatype, "data": data}


@dataclass(frozen=True)
class Folder:
    """The folder being filled. The caller moves it into place once the generator has returned."""

    path: Path

    def write_model(self, model: onnx.ModelProto, *, check: bool = True) -> None:
        if check:
            onnx.checker.check_model(model, full_check=True)
        self.write_bytes("model.onnx", model.SerializeToString(deterministic=True))

    def write_bytes(self, name: str, content: bytes) -> None:
        (self.path / name).write_bytes(content)

    def write_example(
        self, inputs: Tensors, outputs: Tensors | None = None, tolerance: float = 0.0
    ) -> None:
        """`tolerance` is relative to the largest magnitude of an output; 0 asks for equality."""
        self._write_json(
            "example.json", {"inputs": [tensor_json(*item) for item in inputs.items()]}
        )
        if outputs is not None:
            reply = {"parameters": {"tolerance": tolerance}}
            reply["outputs"] = [tensor_json(*item) for item in outputs.items()]
            self._write_json("expected.json", reply)

    def write_checked(
        self, model: onnx.ModelProto, inputs: Tensors, tolerance: float = 0.0
    ) -> None:
        """The model, an example, and what onnx.reference answers to it."""
        self.write_model(model)
        self.write_example(inputs, evaluate(model, inputs), tolerance)

    def _write_json(self, name: str, value: dict) -> None:
        (self.path / name).write_text(json.dumps(value, separators=(",", ":")) + "\n")


def evaluate(model: onnx.ModelProto, inputs: Tensors) -> Tensors:
    """Runs a model with onnx.reference, the specification in numpy."""
    names = [output.name for output in model.graph.output]
    values = ReferenceEvaluator(model).run(None, inputs)
    return {name: _as_array(value) for name, value in zip(names, values, strict=True)}


def _as_array(value) -> np.ndarray:
    value = np.asarray(value)
    return value.astype(object) if value.dtype.kind in "US" else value


def tensor(name: str, datatype: str, shape) -> onnx.ValueInfoProto:
    """A graph input or output. A dimension is a number or the name of a free one."""
    return helper.make_tensor_value_info(name, DATATYPES[datatype], shape)


def constant(name: str, value) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(value), name)


def model_of(
    name: str, nodes, inputs, outputs, constants=(), domains: dict[str, int] | None = None
) -> onnx.ModelProto:
    """A model of the project's opset. `domains` adds operator sets beside ONNX's own."""
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(constants))
    opsets = [helper.make_opsetid("", OPSET)]
    opsets += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mayfly-models"
    )
