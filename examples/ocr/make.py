"""The text recogniser of PaddleOCR with what stands around it in the graph: pixels of a line in, characters out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper
from packages import members
from PIL import Image

MODEL = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
MODEL_SHA256 = "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"
PAGE = "skimage/data/page.png"
PAGE_SHA256 = "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3"

HEIGHT = 48  # of a line, as the recogniser was trained
# Where the lines of the scanned page lie: left, top, right, bottom.
LINES = (
    (0, 9, 384, 37),
    (0, 47, 384, 66),
    (0, 64, 384, 84),
    (0, 81, 384, 101),
    (0, 98, 384, 118),
    (0, 113, 175, 139),
)


def make(folder: Path) -> None:
    (model,) = members("rapidocr-onnxruntime==1.4.4", {MODEL: MODEL_SHA256}).values()
    (page,) = members("scikit-image==0.26.0", {PAGE: PAGE_SHA256}).values()
    onnx.save(reader(onnx.load_from_string(model)), folder / "model.onnx")
    (folder / "mayfly.toml").write_text('memory = "1GiB"\n')
    picture = Image.open(io.BytesIO(page)).convert("RGB")
    picture.save(folder / "page.png")
    (folder / "lines").mkdir()
    for number, box in enumerate(LINES, 1):
        picture.crop(box).save(folder / "lines" / f"{number}.png")


def reader(recogniser: onnx.ModelProto) -> onnx.ModelProto:
    characters = {entry.key: entry.value for entry in recogniser.metadata_props}["character"]
    alphabet = ["", *characters.split("\n"), " "]  # the first stands for "nothing here"
    opset = recogniser.opset_import[0].version
    parts = [
        compose.add_prefix(model_of(graph, opset, recogniser.ir_version), prefix)
        for graph, prefix in ((preprocessing(), "before_"), (decoding(alphabet), "after_"))
    ]
    probabilities = recogniser.graph.output[0].name
    joined = compose.merge_models(parts[0], recogniser, io_map=[("before_planes", "x")])
    joined = compose.merge_models(
        joined, parts[1], io_map=[(probabilities, "after_probabilities")], name="ocr"
    )
    del joined.metadata_props[:]
    rename(joined.graph, {"before_image": "image", "after_characters": "characters"})
    rename(joined.graph, {"after_confidence": "confidence"})
    onnx.checker.check_model(joined)
    return joined


def preprocessing() -> onnx.GraphProto:
    """RGB bytes of a line of any size → planes of 48 rows, blue first, on the scale -1..1."""
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["bytes"], to=TensorProto.FLOAT),
        node("Div", ["bytes", "half"], ["scaled"]),
        node("Sub", ["scaled", "one"], ["centred"]),
        node("Transpose", ["centred"], ["rgb"], perm=[0, 3, 1, 2]),
        node("Gather", ["rgb", "blue_first"], ["bgr"], axis=1),
        node("Shape", ["image"], ["shape"]),
        node("Gather", ["shape", "second"], ["height"], axis=0),
        node("Gather", ["shape", "third"], ["width"], axis=0),
        node("Mul", ["width", "wanted_height"], ["area"]),
        node("Div", ["area", "height"], ["wanted_width"]),
        node("Concat", ["wanted_start", "wanted_width"], ["sizes"], axis=0),
        node("Resize", ["bgr", "none", "none", "sizes"], ["planes"], mode="linear"),
    ]
    constants = {
        "half": np.float32(127.5),
        "one": np.float32(1),
        "blue_first": np.array([2, 1, 0]),
        "second": np.array([1]),
        "third": np.array([2]),
        "wanted_height": np.array([HEIGHT]),
        "wanted_start": np.array([1, 3, HEIGHT]),
        "none": np.array([], np.float32),
    }
    value = helper.make_tensor_value_info
    image = value("image", TensorProto.UINT8, [1, "height", "width", 3])
    planes = value("planes", TensorProto.FLOAT, [1, 3, HEIGHT, "wanted_width"])
    return graph_of("before", nodes, [image], [planes], constants)


def decoding(alphabet: list[str]) -> onnx.GraphProto:
    """Probabilities at each step → the characters: the best of each step, without repetitions and gaps."""
    node = helper.make_node
    nodes = [
        node("ArgMax", ["probabilities"], ["best_rows"], axis=2, keepdims=0),
        node("ReduceMax", ["probabilities"], ["confidence_rows"], axes=[2], keepdims=0),
        node("Reshape", ["best_rows", "flat"], ["best"]),
        node("Reshape", ["confidence_rows", "flat"], ["confidences"]),
        node("Slice", ["best", "first", "last"], ["but_last"]),
        node("Concat", ["first", "but_last"], ["previous"], axis=0),
        node("Equal", ["best", "previous"], ["repeated"]),
        node("Equal", ["best", "first"], ["gap"]),
        node("Or", ["repeated", "gap"], ["dropped"]),
        node("Not", ["dropped"], ["kept"]),
        node("Compress", ["best", "kept"], ["ids"], axis=0),
        node("Compress", ["confidences", "kept"], ["confidence"], axis=0),
        node("Gather", ["alphabet", "ids"], ["characters"], axis=0),
    ]
    constants = {
        "flat": np.array([-1]),
        "first": np.array([0]),
        "last": np.array([-1]),
        "alphabet": np.array(alphabet, dtype=object),
    }
    value = helper.make_tensor_value_info
    probabilities = value("probabilities", TensorProto.FLOAT, [1, "steps", len(alphabet)])
    characters = value("characters", TensorProto.STRING, ["n"])
    confidence = value("confidence", TensorProto.FLOAT, ["n"])
    return graph_of("after", nodes, [probabilities], [characters, confidence], constants)


def graph_of(name, nodes, inputs, outputs, constants) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    return helper.make_graph(nodes, name, inputs, outputs, tensors)


def model_of(graph: onnx.GraphProto, opset: int, ir_version: int) -> onnx.ModelProto:
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
