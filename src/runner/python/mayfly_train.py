"""A slice of the train(ctx) of a user's function, in a jail of its own: the columns of a snapshot as
NumPy arrays, and afterwards what the function's own callable says of the parity rows, which the
platform holds its model against. docs/python-training.md."""

import collections.abc
import json
import os
import shutil

import mayfly_job as job
import mayfly_runtime as runtime
from mayfly_values import import_numpy

DATA = "/data"
MADE = os.path.join(job.WORK, "made")
PIECE = 256  # parity rows that the callable is asked at once
MAX_MODEL = 2 << 30
NO_INTEGER = -(1 << 63)


class Columns(collections.abc.Mapping):
    """The rows of a split: column name → array, read-only. Numbers, integers, dates and images are
    mapped from the disk where they are one part without holes; categories and texts become arrays
    of str when they are first asked for."""

    def __init__(self, np, folder, split, names=None, target=None, rows=None):
        self._np = np
        with open(os.path.join(folder, "schema.json"), encoding="utf-8") as file:
            schema = json.load(file)["columns"]
        self._schema = {column["name"]: (place, column) for place, column in enumerate(schema)}
        self._names = list(self._schema) if names is None else [*names]
        if target and target not in self._names:
            self._names.append(target)
        self._parts = self._find_parts(os.path.join(folder, "parts"), split)
        self._made = {}
        self._rows = rows
        if target:
            self._rows = self._with(target)
        self.rows = len(self._stored_keys()) if self._rows is None else len(self._rows)

    def __getitem__(self, name):
        if name not in self._names:
            raise KeyError(f"there is no column {name!r}; there are {', '.join(self._names)}")
        if name not in self._made:
            array = self._make(name)
            array.setflags(write=False)
            self._made[name] = array
        return self._made[name]

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)

    def type(self, name):
        """As the schema has it: number, integer, date, category, text, image."""
        return self._schema[name][1]["type"]

    def categories(self, name):
        """The texts that a category's codes are of."""
        return list(self._schema[name][1]["categories"])

    def codes(self, name):
        """A category's places in categories(); -1: missing."""
        return self._stored(name)

    def piece(self, first, count):
        """Some of the rows, as a mapping of their own."""
        np = self._np
        some = object.__new__(Columns)
        some.__dict__.update(self.__dict__)
        every = np.arange(self.rows) if self._rows is None else self._rows
        some._rows = every[first:first + count]
        some._made = {}
        some.rows = len(some._rows)
        return some

    def _find_parts(self, folder, split):
        parts = []
        for number in sorted(os.listdir(folder), key=int):
            place = os.path.join(folder, number, split)
            if os.path.isdir(place) and len(self._load(os.path.join(place, "row.npy"))) > 0:
                parts.append(place)
        return parts

    def _load(self, path):
        np = self._np
        array = np.load(path, mmap_mode="r", allow_pickle=False) if not is_empty(np, path) else \
            np.load(path, allow_pickle=False)
        return array.view(np.ndarray)

    def _stored_keys(self):
        return self._join([self._load(os.path.join(part, "row.npy")) for part in self._parts])

    def _join(self, arrays):
        np = self._np
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays) if arrays else np.empty(0)

    def _pick(self, array):
        return array if self._rows is None else array[self._rows]

    def _stored(self, name):
        place = self._schema[name][0]
        return self._pick(self._join(
            [self._load(os.path.join(part, f"c{place}.npy")) for part in self._parts]))

    def _with(self, target):
        """The rows that have a target; None: all have."""
        np = self._np
        values, kind = self._stored(target), self.type(target)
        if kind == "category":
            there = values >= 0
        else:
            there = ~np.isnan(values) if kind == "number" else values != NO_INTEGER
        return None if there.all() else np.flatnonzero(there)

    def _make(self, name):
        np = self._np
        kind = self.type(name)
        if kind == "text":
            return self._texts(self._schema[name][0])
        values = self._stored(name)
        if kind == "date":
            return values.view("datetime64[ms]")
        if kind == "category":
            known = np.array([*self.categories(name), ""], dtype=object)
            return known[values]  # -1: the last
        if kind == "integer" and (values == NO_INTEGER).any():
            return np.where(values == NO_INTEGER, np.nan, values.astype(np.float64))
        return values

    def _texts(self, place):
        texts = []
        for part in self._parts:
            offsets = self._load(os.path.join(part, f"c{place}.offsets.npy"))
            with open(os.path.join(part, f"c{place}.text"), "rb") as file:
                data = file.read()
            texts += [data[begin:end].decode("utf-8", "replace")
                      for begin, end in zip(offsets[:-1], offsets[1:])]
        array = self._np.empty(len(texts), dtype=object)
        array[:] = texts
        return self._pick(array)


def is_empty(np, path):
    """Whether an array has no rows, which cannot be mapped."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else \
            np.lib.format.read_array_header_2_0
        return read(file)[0][0] == 0


class Made:
    """What a training made; ctx.result() makes it."""

    def __init__(self, onnx, predict):
        self.onnx = onnx
        self.predict = predict


class TrainContext(job.JobContext):
    """What a training may know and do."""

    def __init__(self, folder, plan, control, request):
        train = request["train"]
        super().__init__(folder, plan, control,
                         {"restored": train["restored"], "threads": train["threads"],
                          "invocation": request["invocation"]})
        try:
            self._np = import_numpy()
        except ImportError:
            raise runtime.Refused("train(ctx) is given NumPy arrays, and there is no NumPy: name "
                                  "it in requirements.txt") from None
        with open(os.path.join(DATA, "facts.json"), encoding="utf-8") as file:
            facts = json.load(file)
        self.params = dict(train["params"])
        self.seed = train["seed"]
        self.task = train["task"]
        self.target = train["target"] or None
        self.group = train["group"] or None
        self.rounds = train["rounds"] or None
        self.columns = facts["columns"]
        self.classes = facts["classes"]
        names = [*self.columns, *([self.group] if self.group else [])]
        self.train = Columns(self._np, DATA, "train", names, self.target)
        self.valid = Columns(self._np, DATA, "valid", names, self.target)

    def labels(self, split):
        """Of a classification: each row's place in ctx.classes."""
        np = self._np
        if self.classes is None:
            raise ValueError(f"a {self.task} has no classes")
        if split.type(self.target) == "category":
            places = {name: place for place, name in enumerate(self.classes)}
            table = np.array([places.get(name, -1) for name in split.categories(self.target)])
            return table[split.codes(self.target)].astype(np.int64)
        order = np.argsort(self.classes)
        sorted_classes = np.asarray(self.classes)[order]
        return order[np.searchsorted(sorted_classes, split[self.target])].astype(np.int64)

    def result(self, onnx, predict):
        """What train(ctx) returns: the path of the model, as ONNX, and what gives the same
        predictions without it."""
        if not callable(predict):
            raise TypeError("ctx.result(predict=…) takes what can be called")
        return Made(os.fspath(onnx), predict)


def call(module, handler, context):
    train = getattr(module, "train", None)
    if not callable(train):
        raise runtime.Refused(f"{handler} has no function train(ctx)")
    made = train(context)
    if not isinstance(made, Made):
        raise runtime.Refused("train(ctx) returns ctx.result(onnx=PATH, predict=CALLABLE), not "
                              f"{type(made).__name__}")
    os.mkdir(MADE)
    take_model(made.onnx)
    rows = Columns(context._np, os.path.join(DATA, "parity"), "parity")
    ask(context, made.predict, rows)
    return {}


def take_model(path):
    if not os.path.isfile(path):
        raise runtime.Refused(f"ctx.result(onnx={path!r}): there is no such file")
    size = os.path.getsize(path)
    if size > MAX_MODEL:
        raise runtime.Refused(f"ctx.result(onnx={path!r}): {size} bytes are more than {MAX_MODEL}")
    shutil.copyfile(path, os.path.join(MADE, "model.onnx"))


def ask(context, predict, rows):
    """What the callable says of the rows, in files."""
    np = context._np
    pieces = {}
    for first in range(0, rows.rows, PIECE):
        some = rows.piece(first, PIECE)
        for name, array in said_of(context, predict(some), some.rows).items():
            pieces.setdefault(name, []).append(array)
    for name, arrays in pieces.items():
        np.save(os.path.join(MADE, f"{name}.npy"), np.concatenate(arrays), allow_pickle=False)


def said_of(context, said, rows):
    """A callable's answer, by output."""
    if context.task in ("binary", "multiclass"):
        return {"probabilities": reals(context, said, "probabilities",
                                       (rows, len(context.classes)))}
    if context.task != "clustering":
        return {"value": reals(context, said, "value", (rows,))}
    if not isinstance(said, dict) or not {"cluster", "distance"} <= said.keys():
        raise runtime.Refused("predict(rows) of a clustering returns {'cluster': …, 'distance': …}")
    cluster = context._np.asarray(said["cluster"]).reshape(-1)
    if cluster.dtype.kind not in "iu" or len(cluster) != rows:
        raise runtime.Refused(f"predict(rows) gave 'cluster' {cluster.dtype}[{len(cluster)}] of "
                              f"{rows} rows")
    return {"cluster": cluster.astype("<i8"),
            "distance": reals(context, said["distance"], "distance", (rows,))}


def reals(context, said, name, shape):
    np = context._np
    array = np.asarray(said[name] if isinstance(said, dict) and name in said else said)
    if array.dtype.kind not in "fiu":
        raise runtime.Refused(f"predict(rows) gave '{name}' of type {array.dtype}, not numbers")
    if len(shape) == 1 and array.shape == (*shape, 1):
        array = array[:, 0]
    if array.shape != shape:
        raise runtime.Refused(f"predict(rows) gave '{name}' {list(array.shape)}, not {list(shape)}")
    return np.ascontiguousarray(array, dtype="<f4" if array.dtype == np.float32 else "<f8")
