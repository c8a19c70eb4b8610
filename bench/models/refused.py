"""What a deploy must refuse, or survive: broken graphs, escapes, and files that are no ONNX models at all."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from .folder import FREE, OPSET, Folder, constant, model_of, tensor


def _x() -> list[onnx.ValueInfoProto]:
    return [tensor("x", "FP32", [FREE])]


def _y() -> list[onnx.ValueInfoProto]:
    return [tensor("y", "FP32", [FREE])]


def _identity() -> onnx.ModelProto:
    return model_of("identity", [helper.make_node("Identity", ["x"], ["y"])], _x(), _y())


def sequence_output(folder: Folder) -> None:
    output = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    folder.write_model(
        model_of(
            "sequence_output",
            [helper.make_node("SplitToSequence", ["x"], ["parts"])],
            _x(),
            [output],
        )
    )


def sequence_input(folder: Folder) -> None:
    sequence = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    node = helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=0)
    folder.write_model(model_of("sequence_input", [node], [sequence], _y()))


def optional_input(folder: Folder) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [FREE]))
    node = helper.make_node("OptionalHasElement", ["maybe"], ["present"])
    folder.write_model(
        model_of(
            "optional_input",
            [node],
            [helper.make_value_info("maybe", kind)],
            [tensor("present", "BOOL", [])],
        )
    )


def optional_output(folder: Folder) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [FREE]))
    node = helper.make_node("Optional", ["x"], ["maybe"])
    folder.write_model(
        model_of("optional_output", [node], _x(), [helper.make_value_info("maybe", kind)])
    )


def map_input(folder: Folder) -> None:
    text = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    kind = onnx.TypeProto(map_type=onnx.TypeProto.Map(key_type=TensorProto.STRING, value_type=text))
    node = helper.make_node(
        "DictVectorizer", ["row"], ["y"], domain="ai.onnx.ml", string_vocabulary=["age", "size"]
    )
    folder.write_model(
        model_of(
            "map_input",
            [node],
            [helper.make_value_info("row", kind)],
            [tensor("y", "FP32", [1, 2])],
            domains={"ai.onnx.ml": 3},
        ),
        check=False,
    )


def custom_op(folder: Folder) -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")
    folder.write_model(model_of("custom_op", [node], _x(), _y(), domains={"com.example": 1}))


def unknown_op(folder: Folder) -> None:
    folder.write_model(
        model_of("unknown_op", [helper.make_node("Frobnicate", ["x"], ["y"])], _x(), _y()),
        check=False,
    )


def cycle(folder: Folder) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["b"]),
        helper.make_node("Identity", ["b"], ["y"]),
    ]
    folder.write_model(model_of("cycle", nodes, _x(), _y()), check=False)


def undefined_input(folder: Folder) -> None:
    folder.write_model(
        model_of("undefined_input", [helper.make_node("Add", ["x", "nowhere"], ["y"])], _x(), _y()),
        check=False,
    )


def no_outputs(folder: Folder) -> None:
    folder.write_model(
        model_of("no_outputs", [helper.make_node("Identity", ["x"], ["y"])], _x(), []), check=False
    )


def type_mismatch(folder: Folder) -> None:
    folder.write_model(
        model_of(
            "type_mismatch",
            [helper.make_node("Add", ["x", "whole"], ["y"])],
            _x(),
            _y(),
            [constant("whole", np.array([1], np.int64))],
        ),
        check=False,
    )


def opset_too_new(folder: Folder) -> None:
    model = _identity()
    model.opset_import[0].version = 999
    folder.write_model(model, check=False)


def external_escape(folder: Folder) -> None:
    """Weights that claim to be a file of the machine, reached by climbing."""
    _external(folder, "../../../../../../../../etc/passwd")


def external_absolute(folder: Folder) -> None:
    _external(folder, "/etc/passwd")


def external_symlink(folder: Folder) -> None:
    """Weights inside the folder by name, outside by a link."""
    (folder.path / "weights.bin").symlink_to("/etc/passwd")
    _external(folder, "weights.bin")


def external_missing(folder: Folder) -> None:
    _external(folder, "weights.bin")


def external_short(folder: Folder) -> None:
    """A data file of 8 bytes where the model asks for 16."""
    folder.write_bytes("weights.bin", bytes(8))
    _external(folder, "weights.bin")


def _external(folder: Folder, location: str) -> None:
    weights = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        weights.external_data.add(key=key, value=value)
    model = model_of(
        "external", [helper.make_node("Add", ["x", "w"], ["y"])], _x(), _y(), [weights]
    )
    folder.write_model(model, check=False)


def empty(folder: Folder) -> None:
    folder.write_bytes("model.onnx", b"")


def truncated(folder: Folder) -> None:
    """The first two thirds of a valid file."""
    weights = [constant("w", np.arange(4096, dtype=np.float32))]
    content = model_of(
        "truncated", [helper.make_node("Add", ["x", "w"], ["y"])], _x(), _y(), weights
    )
    whole = content.SerializeToString()
    folder.write_bytes("model.onnx", whole[: len(whole) * 2 // 3])


def garbage(folder: Folder) -> None:
    folder.write_bytes("model.onnx", np.random.default_rng(20260103).bytes(4096))


def sklearn_pickle(folder: Folder) -> None:
    classifier = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    folder.write_bytes("model.pkl", pickle.dumps(classifier))


def pytorch_zip(folder: Folder) -> None:
    """What torch.save writes: a zip archive with a pickle in it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in (
            ("archive/data.pkl", pickle.dumps({"weight": [1.0]}, protocol=2)),
            ("archive/version", b"3\n"),
        ):
            archive.writestr(
                zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data
            )  # a fixed date: the same bytes each time
    folder.write_bytes("model.pt", content.getvalue())


def keras_h5(folder: Folder) -> None:
    """The signature and the first superblock fields of an HDF5 file."""
    folder.write_bytes(
        "model.h5", b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(496)
    )


def unknown_setting(folder: Folder) -> None:
    folder.write_model(_identity())
    folder.write_bytes("mayfly.toml", b"replicas = 3\n")


def no_model(folder: Folder) -> None:
    folder.write_bytes("notes.txt", b"The model is on my other laptop.\n")


def crash_on_load(folder: Folder) -> None:
    """-2^31 / -1 among constants: folding it ends the process with SIGFPE (x86-64)."""
    smallest, minus_one = np.array([-(2**31)], np.int32), np.array([-1], np.int32)
    nodes = [
        helper.make_node("Div", ["a", "b"], ["q"]),
        helper.make_node("Cast", ["q"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    folder.write_model(
        model_of(
            "crash_on_load", nodes, _x(), _y(), [constant("a", smallest), constant("b", minus_one)]
        )
    )


def hang(folder: Folder) -> None:
    """A loop of 2^62 steps, whatever is asked."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "before"], ["after"]),
            helper.make_node("Identity", ["go_on"], ["still"]),
        ],
        "step",
        [
            tensor("step", "INT64", []),
            tensor("go_on", "BOOL", []),
            tensor("before", "FP32", [FREE]),
        ],
        [tensor("still", "BOOL", []), tensor("after", "FP32", [FREE])],
    )
    node = helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)
    folder.write_model(
        model_of("hang", [node], _x(), _y(), [constant("trips", np.array(2**62, np.int64))])
    )
    folder.write_bytes("mayfly.toml", b'publish_timeout = "3s"\n')


def greedy(folder: Folder) -> None:
    """8 GiB of ones, whatever is asked: more than a publishing limit, less than allocators refuse outright."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=one),
        helper.make_node("ReduceMax", ["ones"], ["top"]),
        helper.make_node("Add", ["x", "top"], ["y"]),
    ]
    folder.write_model(
        model_of("greedy", nodes, _x(), _y(), [constant("shape", np.array([1 << 31], np.int64))])
    )
    folder.write_bytes("mayfly.toml", b'publish_memory = "512MiB"\n')


assert OPSET >= 15, "Optional and its relatives need opset 15"
