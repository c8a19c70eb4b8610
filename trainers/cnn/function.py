"""The trainer `cnn`: a small convolutional network over the images of one column, in PyTorch. docs/training.md.

A training function like any other (docs/python-training.md), which Mayfly brings along. It has no randomness of its own: what
a step draws follows from the seed and the step's number, so that a training that went on equals one that was never stopped,
on the same threads.
"""

import json
import os
import time

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

CHECKPOINT_EVERY = 10.0  # seconds, within an epoch
ASKED_AT_ONCE = 256
SMALLEST = 6  # pixels of a side, below which nothing is pooled any more
MOST_BLOCKS = 5
STATE = "state.npz"
PLACE = "place.json"

# oneDNN compiles its kernels while it runs, and no jail has memory that is writable and executable.
torch.backends.mkldnn.set_flags(False)


class Block(nn.Sequential):
    def __init__(self, before, after):
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class Network(nn.Module):
    """Of bytes [rows, height, width, channels], the logits of the classes."""

    def __init__(self, shape, classes, width, dropout):
        super().__init__()
        height, across, channels = shape
        layers = [Block(channels, width)]
        side = min(height, across)
        for _ in range(MOST_BLOCKS - 1):
            if side < SMALLEST:
                break
            layers += [nn.MaxPool2d(2), Block(width, 2 * width)]
            side //= 2
            width *= 2
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, images):
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) * (1 / 127.5) - 1
        return self.head(self.body(pixels).mean((2, 3)))


class Exported(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return functional.softmax(self.network(images), dim=1)


class Training:
    def __init__(self, ctx):
        self.ctx = ctx
        self.column = image_column(ctx)
        self.images, self.held_out = ctx.train[self.column], ctx.valid[self.column]
        self.labels, self.held_out_labels = ctx.labels(ctx.train), ctx.labels(ctx.valid)
        params = ctx.params
        self.batch = int(params["batch"])
        self.epochs = min(int(params["epochs"]), ctx.rounds or int(params["epochs"]))
        self.steps = max(1, len(self.images) // self.batch)  # of an epoch
        torch.manual_seed(ctx.seed % (1 << 63))
        shape = self.images.shape[1:]
        self.network = Network(shape, len(ctx.classes), int(params["width"]), params["dropout"])
        self.best = copied(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=params["learning_rate"],
                                           weight_decay=params["weight_decay"])
        self.step = 0
        self.best_loss, self.best_epoch = float("inf"), 0
        self.kept = time.monotonic()

    def run(self):
        if self.ctx.restore():
            self.restore(self.ctx.restore())
        while self.step < self.epochs * self.steps and not self.is_over():
            epoch = self.step // self.steps
            self.learn(epoch)
            if self.step % self.steps == 0:
                self.judge(epoch)
            asked = self.step % 8 == 0 and self.ctx.should_stop()
            if asked or self.step % self.steps == 0 or time.monotonic() - self.kept > CHECKPOINT_EVERY:
                self.checkpoint()
        self.network.load_state_dict(self.best)

    def is_over(self):
        """It has become no better for a while."""
        patience = int(self.ctx.params["early_stop"])
        return patience > 0 and self.step // self.steps - self.best_epoch > patience

    def learn(self, epoch):
        ctx, params = self.ctx, self.ctx.params
        order = np.random.default_rng([ctx.seed, 1, epoch]).permutation(len(self.images))
        draw = np.random.default_rng([ctx.seed, 2, self.step])
        torch.manual_seed(int(draw.integers(1 << 62)))  # of the dropout
        first = (self.step % self.steps) * self.batch
        rows = np.sort(order[first:first + self.batch])
        images = torch.from_numpy(shifted(np.asarray(self.images[rows]), int(params["shift"]), draw))
        for group in self.optimizer.param_groups:
            group["lr"] = params["learning_rate"] * rate_at(self.step / (self.epochs * self.steps))
        self.network.train()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.network(images), torch.from_numpy(self.labels[rows]))
        loss.backward()
        self.optimizer.step()
        self.step += 1

    def judge(self, epoch):
        said = probabilities(self.network, self.held_out)
        rows = np.arange(len(said))
        loss = float(-np.log(np.maximum(said[rows, self.held_out_labels], 1e-12)).mean())
        accuracy = float((said.argmax(axis=1) == self.held_out_labels).mean())
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch + 1
            self.best = copied(self.network)
        self.ctx.metric("log_loss", loss)
        self.ctx.metric("accuracy", accuracy)
        self.ctx.progress((epoch + 1) / self.epochs,
                          f"epoch {epoch + 1} of {self.epochs}: log_loss {loss:.4g}, accuracy {accuracy:.4g}")

    # What is kept are arrays and numbers; nothing of it is a pickle.

    def checkpoint(self):
        folder = os.path.join(self.ctx.scratch, "checkpoint")
        os.makedirs(folder, exist_ok=True)
        arrays = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        arrays.update({f"best.{name}": value.numpy() for name, value in self.best.items()})
        for number, state in self.optimizer.state_dict()["state"].items():
            arrays.update({f"optimizer.{number}.{name}": value.numpy() for name, value in state.items()})
        np.savez(os.path.join(folder, STATE), **arrays)
        with open(os.path.join(folder, PLACE), "w", encoding="utf-8") as file:
            json.dump({"step": self.step, "best_loss": self.best_loss, "best_epoch": self.best_epoch}, file)
        self.ctx.checkpoint(folder)
        self.kept = time.monotonic()

    def restore(self, folder):
        with open(os.path.join(folder, PLACE), encoding="utf-8") as file:
            place = json.load(file)
        self.step = place["step"]
        self.best_loss, self.best_epoch = place["best_loss"], place["best_epoch"]
        state = {"network": {}, "best": {}, "optimizer": {}}
        with np.load(os.path.join(folder, STATE), allow_pickle=False) as arrays:
            for key in arrays.files:
                kind, name = key.split(".", 1)
                state[kind][name] = torch.from_numpy(arrays[key].copy())
        self.network.load_state_dict(state["network"])
        self.best = state["best"]
        moments = {}
        for key, value in state["optimizer"].items():
            number, name = key.split(".", 1)
            moments.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def image_column(ctx):
    images = [name for name in ctx.columns if ctx.train.type(name) == "image"]
    if len(images) != 1 or len(ctx.columns) != 1:
        raise ValueError(f"cnn learns from one column of images; there are {', '.join(ctx.columns)}")
    return images[0]


def rate_at(done):
    """Up for a twentieth, then down along a cosine."""
    warm = 0.05
    return done / warm + 0.01 if done < warm else 0.5 * (1 + np.cos(np.pi * (done - warm) / (1 - warm))) + 0.001


def shifted(images, most, draw):
    """Each by some pixels, in both directions; what comes in repeats the border."""
    if most == 0:
        return images
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    offsets = draw.integers(2 * most + 1, size=(len(images), 2))
    return np.stack([image[y:y + height, x:x + width] for image, (y, x) in zip(padded, offsets)])


def copied(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def probabilities(network, images):
    network.eval()
    pieces = []
    with torch.no_grad():
        for first in range(0, len(images), ASKED_AT_ONCE):
            piece = np.array(images[first:first + ASKED_AT_ONCE])
            pieces.append(functional.softmax(network(torch.from_numpy(piece)), dim=1).numpy())
    return np.concatenate(pieces)


def export(training, path):
    """The network, with the names of its classes as `label`."""
    ctx = training.ctx
    example = torch.from_numpy(np.array(training.images[:1]))
    torch.onnx.export(Exported(training.network).eval(), example, path, opset_version=15, input_names=[training.column],
                      output_names=["probabilities"],
                      dynamic_axes={training.column: {0: "rows"}, "probabilities": {0: "rows"}})
    model = onnx.load(path)
    text = isinstance(ctx.classes[0], str)
    kind = TensorProto.STRING if text else TensorProto.INT64
    names = [name.encode() for name in ctx.classes] if text else [int(name) for name in ctx.classes]
    model.graph.initializer.append(helper.make_tensor("mayfly.classes", kind, [len(names)], names))
    model.graph.node.extend([
        helper.make_node("ArgMax", ["probabilities"], ["mayfly.place"], axis=1, keepdims=0),
        helper.make_node("Gather", ["mayfly.classes", "mayfly.place"], ["label"])])
    model.graph.output.insert(0, helper.make_tensor_value_info("label", kind, ["rows"]))
    onnx.save(model, path)


def train(ctx):
    # As many threads as the trial has: OMP_NUM_THREADS says so. torch.set_num_threads() would look for /proc/cpuinfo.
    training = Training(ctx)
    training.run()
    path = os.path.join(ctx.scratch, "model.onnx")
    export(training, path)
    return ctx.result(onnx=path,
                      predict=lambda rows: probabilities(training.network, rows[training.column]))
