"""Tiny models whose right answer is obvious: for the wire, for limits, and for what goes wrong while running."""

from __future__ import annotations

import functools

import numpy as np
import onnx
from onnx import TensorProto, helper

from .folder import DATATYPES, FREE, Folder, constant, model_of, strings, tensor

SLOW_SIDE = 512  # one step of `slow` multiplies two matrices of this side: about 1 ms on one core
ELEMENTS_PER_MIB = 1 << 18

# Values at the edges of each datatype: what a wire format loses first.
EDGES = {
    "BOOL": np.array([True, False, True]),
    "UINT8": np.array([0, 1, 255], np.uint8),
    "UINT16": np.array([0, 1, 65535], np.uint16),
    "UINT32": np.array([0, 1, 4294967295], np.uint32),
    "UINT64": np.array([0, 9007199254740993, 18446744073709551615], np.uint64),
    "INT8": np.array([-128, 0, 127], np.int8),
    "INT16": np.array([-32768, 0, 32767], np.int16),
    "INT32": np.array([-2147483648, 0, 2147483647], np.int32),
    "INT64": np.array([-9223372036854775808, 9007199254740993, 9223372036854775807], np.int64),
    "FP32": np.array([0.1, -0.0, 3.4028235e38, 1e-45], np.float32),
    "FP64": np.array([0.1, -0.0, 1.7976931348623157e308, 5e-324], np.float64),
    "BYTES": strings(["", "a", "Grüße, 世界"]),
}


def identity(datatype: str):
    """The generator of `identity_<datatype>`: x -> y, any length."""
    return functools.partial(_identity, datatype=datatype)


def _identity(folder: Folder, *, datatype: str) -> None:
    model = model_of(
        f"identity_{datatype.lower()}",
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", datatype, [FREE])],
        [tensor("y", datatype, [FREE])],
    )
    folder.write_model(model)
    if datatype in EDGES:  # FP16 and BF16 have no JSON form
        folder.write_example({"x": EDGES[datatype]}, {"y": EDGES[datatype]})


def adder(folder: Folder) -> None:
    """Two inputs, two outputs: sum = a + b, difference = a - b."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    model = model_of(
        "adder",
        nodes,
        [tensor(name, "FP32", [FREE]) for name in ("a", "b")],
        [tensor(name, "FP32", [FREE]) for name in ("sum", "difference")],
    )
    inputs = {"a": np.array([1, 2, 3.5], np.float32), "b": np.array([0.5, -2, 4], np.float32)}
    folder.write_checked(model, inputs)


def multi_rank(folder: Folder) -> None:
    """A scalar, a vector, a matrix and a cube, each handed back."""
    shapes = {"scalar": [], "vector": ["i"], "matrix": ["i", "j"], "cube": ["i", "j", "k"]}
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in shapes]
    model = model_of(
        "multi_rank",
        nodes,
        [tensor(name, "FP32", shape) for name, shape in shapes.items()],
        [tensor(f"{name}_out", "FP32", shape) for name, shape in shapes.items()],
    )
    sizes = {"i": 2, "j": 3, "k": 4}
    concrete = {name: [sizes[dimension] for dimension in shape] for name, shape in shapes.items()}
    folder.write_checked(
        model,
        {
            name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            for name, shape in concrete.items()
        },
    )


def string_upper(folder: Folder) -> None:
    """Text in, capitals out. The C locale is the one a jail without locale files has."""
    node = helper.make_node(
        "StringNormalizer", ["text"], ["upper"], case_change_action="UPPER", locale="C"
    )
    model = model_of(
        "string_upper",
        [node],
        [tensor("text", "BYTES", [FREE])],
        [tensor("upper", "BYTES", [FREE])],
    )
    folder.write_model(model)
    folder.write_example(
        {"text": strings(["mayfly", "Lives a day"])}, {"upper": strings(["MAYFLY", "LIVES A DAY"])}
    )


def random_normal(folder: Folder) -> None:
    """Unseeded noise of the shape of x: two instances must not draw the same."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["noise"])]
    model = model_of(
        "random_normal", nodes, [tensor("x", "FP32", [FREE])], [tensor("noise", "FP32", [FREE])]
    )
    folder.write_model(model)
    folder.write_example({"x": np.zeros(8, np.float32)})


def slow(folder: Folder) -> None:
    """Multiplies a matrix `count` times by one that rotates columns; `shift` = count mod 512 proves that it did."""
    rotation = np.roll(np.eye(SLOW_SIDE, dtype=np.float32), 1, axis=1)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "rotation"], ["after"]),
            helper.make_node("Identity", ["go_on"], ["still"]),
        ],
        "step",
        [
            tensor("step", "INT64", []),
            tensor("go_on", "BOOL", []),
            tensor("before", "FP32", [SLOW_SIDE, SLOW_SIDE]),
        ],
        [tensor("still", "BOOL", []), tensor("after", "FP32", [SLOW_SIDE, SLOW_SIDE])],
    )
    nodes = [
        helper.make_node("Squeeze", ["count"], ["trips"]),
        helper.make_node("Loop", ["trips", "", "start"], ["end"], body=body),
        helper.make_node("Gather", ["end", "first"], ["row"], axis=0),
        helper.make_node("ArgMax", ["row"], ["shift"], axis=1, keepdims=0),
    ]
    constants = [
        constant("rotation", rotation),
        constant("start", np.eye(SLOW_SIDE, dtype=np.float32)),
        constant("first", np.array([0], np.int64)),
    ]
    model = model_of(
        "slow", nodes, [tensor("count", "INT64", [1])], [tensor("shift", "INT64", [1])], constants
    )
    folder.write_model(model)  # onnx.reference 1.17 leaves a Loop without a condition at once
    folder.write_example({"count": np.array([3], np.int64)}, {"shift": np.array([3], np.int64)})


def memory_hog(folder: Folder) -> None:
    """Holds as many MiB as it is told, every page written, and answers with one number."""
    nodes = [*_ones_of("mebibytes"), helper.make_node("ReduceMax", ["ones"], ["one"], keepdims=0)]
    model = model_of(
        "memory_hog",
        nodes,
        [tensor("mebibytes", "INT64", [1])],
        [tensor("one", "FP32", [])],
        [constant("unit", np.array([ELEMENTS_PER_MIB], np.int64))],
    )
    folder.write_checked(model, {"mebibytes": np.array([1], np.int64)})


def big_reply(folder: Folder) -> None:
    """A reply of as many ones as it is told."""
    model = model_of(
        "big_reply",
        _ones_of("count"),
        [tensor("count", "INT64", [1])],
        [tensor("ones", "FP32", [FREE])],
        [constant("unit", np.array([1], np.int64))],
    )
    folder.write_checked(model, {"count": np.array([4], np.int64)})


def _ones_of(count: str) -> list[onnx.NodeProto]:
    """`ones`: a vector of count x unit ones. The caller provides the constant `unit`."""
    one = helper.make_tensor("one_value", TensorProto.FLOAT, [1], [1.0])
    return [
        helper.make_node("Mul", [count, "unit"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=one),
    ]


def gather(folder: Folder) -> None:
    """Looks one of four numbers up: an index out of range makes the run fail with the runtime's message."""
    model = model_of(
        "gather",
        [helper.make_node("Gather", ["table", "index"], ["value"])],
        [tensor("index", "INT64", [FREE])],
        [tensor("value", "FP32", [FREE])],
        [constant("table", np.array([10, 20, 30, 40], np.float32))],
    )
    folder.write_checked(model, {"index": np.array([0, 3], np.int64)})


def reshape(folder: Folder) -> None:
    """Gives x the shape it is told: one that does not hold x's elements makes the run fail."""
    model = model_of(
        "reshape",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", "FP32", [FREE]), tensor("shape", "INT64", [2])],
        [tensor("y", "FP32", ["i", "j"])],
    )
    folder.write_checked(
        model, {"x": np.arange(6, dtype=np.float32), "shape": np.array([2, 3], np.int64)}
    )


def crash(folder: Folder) -> None:
    """Divides whole numbers. On x86-64, -2^31 / -1 overflows and the processor ends the process with SIGFPE."""
    model = model_of(
        "crash",
        [helper.make_node("Div", ["a", "b"], ["quotient"])],
        [tensor(name, "INT32", [FREE]) for name in ("a", "b")],
        [tensor("quotient", "INT32", [FREE])],
    )
    folder.write_checked(model, {"a": np.array([6, 8], np.int32), "b": np.array([2, 4], np.int32)})


ALL_DATATYPES = tuple(DATATYPES)
