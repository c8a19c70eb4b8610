"""Networks of the sizes the benchmarks ask for: 1 MB, 100 MB, 1 GB and 6 GB."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from .folder import FREE, Folder, constant, evaluate, model_of, tensor

SEED = 20260102
DIGIT_ROWS = (0, 1, 2, 3)  # drawings of 0, 1, 2 and 3
WIDE = 4096  # the side of the matrices of the very large networks
PAGE = 4096  # external tensors start on a page, so that they can be mapped where they lie


def mlp1m(folder: Folder) -> None:
    """64 pixels of a handwritten digit -> 512 -> 448 -> 10 probabilities; really trained, 1.07 MB."""
    pixels, truth = digits_data()
    with warnings.catch_warnings(
        action="ignore", category=ConvergenceWarning
    ):  # 12 rounds are enough for 98 %
        network = MLPClassifier((512, 448), max_iter=12, random_state=SEED).fit(pixels, truth)
    nodes, constants, last = [], [], "pixels"
    for i, (weights, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        constants += [
            constant(f"w{i}", weights.astype(np.float32)),
            constant(f"b{i}", bias.astype(np.float32)),
        ]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"gemm{i}"]))
        activation, last = ("Relu", f"relu{i}") if i < 2 else ("Softmax", "probabilities")
        nodes.append(helper.make_node(activation, [f"gemm{i}"], [last]))
    model = model_of(
        "mlp1m",
        nodes,
        [tensor("pixels", "FP32", [FREE, 64])],
        [tensor("probabilities", "FP32", [FREE, 10])],
        constants,
    )
    folder.write_checked(model, {"pixels": pixels[list(DIGIT_ROWS)]}, tolerance=1e-5)


def digits_data() -> tuple[np.ndarray, np.ndarray]:
    """8 x 8 drawings, brightness 0..1, and the digit of each."""
    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target


def resnet50(folder: Folder) -> None:
    """ResNet-50 as exporters write it (convolution, normalisation, ReLU), random weights, 102 MB."""
    builder = _ResNet(np.random.default_rng(SEED))
    model = builder.model()
    image = (
        np.random.default_rng(SEED + 1).integers(0, 65, (1, 3, 224, 224)) / 64
    )  # short numbers in JSON
    inputs = {"image": image.astype(np.float32)}
    folder.write_model(model)
    folder.write_example(inputs, evaluate(model, inputs), tolerance=1e-3)


class _ResNet:
    """Writes the layers in order; each method returns the name of its result."""

    STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # (width, blocks): He et al. 2015, table 1

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        x = self._relu(self._conv("image", 3, 64, kernel=7, stride=2))
        x = self._node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        channels = 64
        for stage, (width, blocks) in enumerate(self.STAGES):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = self._bottleneck(x, channels, width, stride)
                channels = 4 * width
        x = self._node("Flatten", [self._node("GlobalAveragePool", [x])])
        x = self._gemm(x, channels, 1000)
        self._nodes.append(helper.make_node("Identity", [x], ["logits"]))
        return model_of(
            "resnet50",
            self._nodes,
            [tensor("image", "FP32", [FREE, 3, 224, 224])],
            [tensor("logits", "FP32", [FREE, 1000])],
            self._constants,
        )

    def _bottleneck(self, x: str, channels: int, width: int, stride: int) -> str:
        y = self._relu(self._conv(x, channels, width, kernel=1))
        y = self._relu(self._conv(y, width, width, kernel=3, stride=stride))
        y = self._conv(y, width, 4 * width, kernel=1, gain=0.3)  # keeps the sums of 16 blocks small
        if channels != 4 * width:
            x = self._conv(x, channels, 4 * width, kernel=1, stride=stride)
        return self._relu(self._node("Add", [y, x]))

    def _conv(
        self, x: str, inputs: int, outputs: int, *, kernel: int, stride: int = 1, gain: float = 1.0
    ) -> str:
        scale = np.sqrt(2 / (inputs * kernel * kernel))
        weights = self._rng.standard_normal(
            (outputs, inputs, kernel, kernel), np.float32
        ) * np.float32(scale)
        x = self._node(
            "Conv",
            [x, self._constant(weights)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )
        ones, zeros = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
        parts = [self._constant(part) for part in (ones * np.float32(gain), zeros, zeros, ones)]
        return self._node("BatchNormalization", [x, *parts])

    def _gemm(self, x: str, inputs: int, outputs: int) -> str:
        weights = self._rng.standard_normal((inputs, outputs), np.float32) * np.float32(
            1 / np.sqrt(inputs)
        )
        return self._node(
            "Gemm", [x, self._constant(weights), self._constant(np.zeros(outputs, np.float32))]
        )

    def _relu(self, x: str) -> str:
        return self._node("Relu", [x])

    def _node(self, kind: str, inputs, **attributes) -> str:
        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _constant(self, value: np.ndarray) -> str:
        self._constants.append(constant(f"c{len(self._constants)}", value))
        return self._constants[-1].name


def mlp64m(folder: Folder) -> None:
    """One layer of 4096 x 4096: a run of one row is bound by reading 64 MB of weights."""
    _wide_mlp(folder, "mlp64m", layers=1)


def mlp1g(folder: Folder) -> None:
    """16 layers of 4096 x 4096, 1.07 GB in external data."""
    _wide_mlp(folder, "mlp1g", layers=16)


def mlp6g(folder: Folder) -> None:
    """96 layers of 4096 x 4096, 6.4 GB: more than a publishing limit holds. Only made when asked for by name."""
    _wide_mlp(folder, "mlp6g", layers=96)


def _wide_mlp(folder: Folder, name: str, *, layers: int) -> None:
    """Streams one layer at a time to disk and pushes the example through it on the way: 128 MB at most are held."""
    rng = np.random.default_rng(SEED + layers)
    x = rng.integers(-64, 65, (1, WIDE)).astype(np.float32) / 64
    inputs = {"x": x}
    nodes, constants = [], []
    with open(folder.path / "weights.bin", "wb") as data:
        for i in range(layers):
            weights = rng.standard_normal((WIDE, WIDE), np.float32)
            weights *= np.float32(
                np.sqrt(2 / WIDE)
            )  # keeps the activations' size from layer to layer
            constants.append(_external(f"w{i}", weights.shape, data.tell(), weights.nbytes))
            data.write(weights)
            nodes.append(helper.make_node("Gemm", [f"x{i}" if i else "x", f"w{i}"], [f"gemm{i}"]))
            nodes.append(
                helper.make_node("Relu", [f"gemm{i}"], [f"x{i + 1}" if i + 1 < layers else "y"])
            )
            x = np.maximum(x @ weights, 0)
    shape = [FREE, WIDE]
    model = model_of(
        name, nodes, [tensor("x", "FP32", shape)], [tensor("y", "FP32", shape)], constants
    )
    folder.write_model(
        model, check=False
    )  # the checker would look for the data relative to no folder
    onnx.checker.check_model(str(folder.path / "model.onnx"))
    folder.write_example(inputs, {"y": x}, tolerance=1e-3)


def _external(name: str, shape, offset: int, length: int) -> onnx.TensorProto:
    assert offset % PAGE == 0
    proto = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": "weights.bin", "offset": offset, "length": length}.items():
        proto.external_data.add(key=key, value=str(value))
    return proto
