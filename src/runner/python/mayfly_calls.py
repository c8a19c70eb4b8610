"""ctx.call(): a function asks another one of its project. What it gives becomes tensors where it is a
dict of NumPy arrays, else a body, as a caller over HTTP would send it."""

import json
import threading

import mayfly_values as values

# The kinds of messages in shared memory (sandbox/call_message.h).
TENSORS, DOCUMENT, FAILED, ASK_IN_JSON = 1, 2, 3, 4


class CallError(Exception):
    """What a called function came to instead of an answer."""

    def __init__(self, function, reason, message, status):
        super().__init__(f"{function}: {reason}: {message}")
        self.function = function
        self.reason = reason
        self.message = message
        self.status = status


CallError.__module__ = "builtins"  # complaints name it as functions do: ctx.CallError


class NothingAnswers(BaseException):
    """A trial run has come to a call. No function that catches its own exceptions catches this."""


class Calls:
    """One call at a time, whatever thread makes it, while predict runs."""

    def __init__(self, names):
        self.names = frozenset(names)
        self._bridge = None
        self._lock = threading.Lock()
        self._open = False

    def set_bridge(self, bridge):
        self._bridge = bridge

    def open(self):
        self._open = True

    def close(self):
        """Waits for a call that another thread has under way."""
        with self._lock:
            self._open = False

    def call(self, name, inputs):
        if name not in self.names:
            raise ValueError(f"mayfly.toml does not name the function {name!r}: "
                             f"add it, as in calls = [\"{name}\"]")
        with self._lock:
            if not self._open:
                raise RuntimeError("ctx.call() works while predict() runs; not in load(), not in a "
                                   "job's run(), and not in a thread that outlives its request")
            if self._bridge is None:
                raise NothingAnswers(f"it calls {name!r}, and nothing is called in a trial")
            return self._ask(name, inputs)

    def _ask(self, name, inputs):
        if holds_arrays(inputs):
            parts = [(key, *tensor_of(key, value)) for key, value in inputs.items()]
            kind, *answer = self._bridge(TENSORS, name, "", parts)
            if kind != ASK_IN_JSON:
                return result_of(name, kind, *answer)
        body, content_type = values.document_of(inputs)
        return result_of(name, *self._bridge(DOCUMENT, name, content_type,
                                             [("", "BYTES", (), body)]))


def result_of(function, kind, status, reason, text, parts):
    if kind == TENSORS:
        try:
            values.import_numpy()
        except ImportError as error:
            raise TypeError(f"{function!r} answers with arrays, and numpy cannot be imported "
                            f"({error}); add it to requirements.txt or pyproject.toml") from None
        return {name: array_of(name, *tensor) for name, *tensor in parts}
    if kind == DOCUMENT:
        body = parts[0][3]
        if values.is_json(text):
            return json.loads(body) if body else None
        return bytes(body)
    raise CallError(function, reason, text, status)


def holds_arrays(inputs):
    numpy = values.numpy_if_there()
    return numpy is not None and isinstance(inputs, dict) and len(inputs) > 0 and \
        all(isinstance(value, (numpy.ndarray, numpy.generic)) for value in inputs.values())


def tensor_of(name, value):
    """(datatype, shape, bytes-like) of an array as it is: nothing is converted."""
    if not isinstance(name, str):
        raise TypeError(f"inputs are named by texts, not by {name!r}")
    array = values.numpy_if_there().asarray(value)
    if array.dtype.kind in "OSU":
        return "BYTES", array.shape, values.join_elements(name, array.ravel().tolist())
    little = array.dtype.newbyteorder("<")
    for datatype, code in values.NUMPY.items():
        if little == code:
            array = values.numpy_if_there().ascontiguousarray(array, dtype=little)
            return datatype, value.shape, memoryview(array).cast("B") if array.size else b""
    raise TypeError(f"input {name!r} is {array.dtype}, which no function takes; convert it")


def array_of(name, datatype, shape, data):
    if datatype not in values.NUMPY and datatype != "BYTES":
        raise TypeError(f"output {name!r} is {datatype}, which NumPy lacks")
    if datatype == "BYTES" and 4 * values.len_of(shape) > len(data):
        raise TypeError(f"output {name!r} has fewer elements than its shape says")
    return values.to_array(datatype, shape, data)
