"""NumPy arrays ↔ Open Inference v2 with binary tensors. Bytes in, values out: no I/O here.

POST /v2/models/NAME/infer                 Inference-Header-Content-Length: length of the JSON
┌───────────────┬──────────┬──────────┐
│ JSON: inputs, │ bytes of │ bytes of │    row-major, little-endian; BYTES: each element after
│ shapes, sizes │ input 0  │ input 1  │    its length in four bytes; BF16: the upper half of a
└───────────────┴──────────┴──────────┘    float32. Replies have the same form.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from .errors import BadReply, InvalidArgument
from .types import Signature, TensorSpec

Array = NDArray[Any]
Buffer = Union[bytes, memoryview]

DTYPES: Dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
# NumPy has no bfloat16: it is given and taken as float32.
_BF16 = np.dtype("<f4")
_LENGTH = struct.Struct("<I")


def array_for(spec: TensorSpec, value: Any) -> Array:
    """The value as the input wants it: its element type, where that loses nothing but digits of a float, and leading or
    trailing dimensions of 1 that it lacks. A shape that does not fit is left alone: the node says what it expects.
    """
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "USTO":
        array = np.asarray(array, dtype=object)
    if spec.datatype == "BYTES":
        array = _texts(spec, array)
    else:
        array = _numbers(spec, array)
    return array.reshape(shape_for(array.shape, spec.shape))


def shape_for(shape: Tuple[int, ...], wanted: Tuple[int, ...]) -> Tuple[int, ...]:
    ones = (1,) * (len(wanted) - len(shape))
    for candidate in (shape, ones + shape, shape + ones):
        if len(candidate) == len(wanted) and all(
            w in (-1, have) for have, w in zip(candidate, wanted)
        ):
            return candidate
    return shape


def encode_request(
    inputs: Sequence[Tuple[TensorSpec, Array]],
    outputs: Optional[Sequence[str]] = None,
    parameters: Optional[Mapping[str, Any]] = None,
) -> Tuple[bytes, List[Buffer]]:
    """The JSON, and the bytes of the inputs in its order. The arrays are as `array_for` makes them."""
    tensors: List[Dict[str, Any]] = []
    buffers: List[Buffer] = []
    for spec, array in inputs:
        data = _to_bytes(spec.datatype, array)
        buffers.append(data)
        tensors.append(
            {
                "name": spec.name,
                "datatype": spec.datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(data)},
            }
        )
    request: Dict[str, Any] = {
        "inputs": tensors,
        "parameters": {"binary_data_output": True, **(parameters or {})},
    }
    if outputs is not None:
        request["outputs"] = [{"name": name} for name in outputs]
    return json.dumps(request, separators=(",", ":")).encode(), buffers


def decode_reply(body: bytearray, json_length: Optional[int]) -> Dict[str, Array]:
    """The outputs by name. Numbers are views of `body` where they lie at a multiple of their size."""
    size = len(body) if json_length is None else json_length
    try:
        if not 0 <= size <= len(body):
            raise ValueError("the header is longer than the reply")
        outputs = json.loads(bytes(memoryview(body)[:size]))["outputs"]
        found: Dict[str, Array] = {}
        for output in outputs:
            shape, datatype = tuple(map(int, output["shape"])), output["datatype"]
            length = output.get("parameters", {}).get("binary_data_size")
            if length is None:
                found[output["name"]] = _from_json(datatype, output["data"]).reshape(shape)
                continue
            if size + length > len(body):
                raise ValueError("an output is cut off")
            data = memoryview(body)[size : size + length]
            found[output["name"]] = _from_bytes(datatype, data).reshape(shape)
            size += length
        return found
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise BadReply(f"the node's reply is not one of Open Inference v2: {error}") from error


def decode_plain(value: Any, signature: Signature) -> Dict[str, Array]:
    """A reply of plain JSON: every output by name, nested like its shape."""
    if not isinstance(value, dict):
        raise BadReply("the node's reply is not an object of outputs by name")
    datatypes = {spec.name: spec.datatype for spec in signature.outputs}
    try:
        return {name: _from_json(datatypes.get(name), data) for name, data in value.items()}
    except (ValueError, TypeError) as error:
        raise BadReply(f"the node's reply is not one of arrays: {error}") from error


def _numbers(spec: TensorSpec, array: Array) -> Array:
    wanted = _BF16 if spec.datatype == "BF16" else DTYPES[spec.datatype]
    if array.dtype == object:
        try:
            array = np.asarray(array.tolist())
        except ValueError:
            raise InvalidArgument(f"input '{spec.name}': its rows differ in length") from None
    if array.dtype.kind not in "?biuf":
        got = "texts" if array.dtype.kind in "US" else str(array.dtype)
        raise InvalidArgument(f"input '{spec.name}': expected {spec.datatype}, got {got}")
    if array.dtype == wanted or wanted.kind == "f":
        return array.astype(wanted, copy=False)
    with np.errstate(invalid="ignore"):
        cast = array.astype(wanted)
    if not np.array_equal(cast, array):
        raise InvalidArgument(
            f"input '{spec.name}': expected {spec.datatype}, got {array.dtype} with values that "
            "it does not hold",
            "round or clip them first, if that is what you mean",
        )
    return cast


def _texts(spec: TensorSpec, array: Array) -> Array:
    texts = np.empty(array.shape, dtype=object)
    for index, element in enumerate(array.flat):
        if isinstance(element, str):
            element = element.encode()
        if not isinstance(element, (bytes, bytearray)):
            missing = element is None or element != element
            what = "is missing" if missing else f"is {element!r}"
            raise InvalidArgument(
                f"input '{spec.name}': expected texts or bytes, but element {index} {what}"
            )
        texts.flat[index] = bytes(element)
    return texts


def _to_bytes(datatype: str, array: Array) -> Buffer:
    if datatype == "BYTES":
        pieces: List[bytes] = []
        for element in array.flat:
            pieces += (_LENGTH.pack(len(element)), element)
        return b"".join(pieces)
    if datatype == "BF16":
        return _round_to_bf16(array).tobytes()
    array = np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8).data


def _round_to_bf16(array: Array) -> Array:
    bits = np.ascontiguousarray(array, dtype=_BF16).view(np.uint32)
    to_even = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    rounded = ((bits + to_even) >> 16).astype("<u2")
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def _from_bytes(datatype: str, data: memoryview) -> Array:
    if datatype == "BYTES":
        return _text_array(_split_texts(data))
    if datatype == "BF16":
        halves = np.frombuffer(data, dtype="<u2").astype(np.uint32)
        return (halves << 16).view(_BF16)
    array = np.frombuffer(data, dtype=DTYPES[datatype])
    return array if array.flags.aligned else array.copy()


def _split_texts(data: memoryview) -> List[bytes]:
    elements, at = [], 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        if at > len(data):
            raise ValueError("a text is cut off")
        elements.append(bytes(data[at - length : at]))
    return elements


def _text_array(elements: Sequence[Union[str, bytes]]) -> Array:
    """str where every element is UTF-8, else bytes."""
    array = np.empty(len(elements), dtype=object)
    try:
        array[:] = [e if isinstance(e, str) else e.decode() for e in elements]
    except UnicodeDecodeError:
        array[:] = elements
    return array


def _from_json(datatype: Optional[str], data: Any) -> Array:
    if datatype == "BYTES":
        return np.array(data, dtype=object)
    if datatype is None:
        return np.asarray(data)
    return np.array(_not_finite(data), dtype=DTYPES.get(datatype, _BF16))


def _not_finite(data: Any) -> Any:
    """JSON has no NaN: the node writes texts, which float() reads."""
    if isinstance(data, list):
        return [_not_finite(item) for item in data]
    return float(data) if isinstance(data, str) else data
