"""Values as they cross: NumPy's arrays, bytes and JSON."""

import collections.abc
import json
import sys

NUMPY = {"BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
         "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}

# What curl and simple clients say of JSON when nobody told them better.
JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded")


def numpy_if_there():
    """A function that has not imported it has none of its arrays."""
    return sys.modules.get("numpy")


def import_numpy():
    import numpy
    return numpy


def is_json(content_type):
    kind = content_type.split(";")[0].strip().lower()
    return kind in JSON_TYPES or kind.endswith("+json")


def to_array(datatype, shape, memory):
    numpy = sys.modules["numpy"]
    if datatype == "BYTES":
        elements = numpy.empty(len_of(shape), dtype=object)
        elements[:] = split_elements(memory, len(elements))
        return elements.reshape(shape)
    if len(memory) == 0:
        return numpy.empty(shape, dtype=NUMPY[datatype])
    return numpy.frombuffer(memory, dtype=NUMPY[datatype]).reshape(shape)


def len_of(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def split_elements(memory, count):
    elements, offset = [], 0
    for _ in range(count):
        length = int.from_bytes(memory[offset:offset + 4], "little")
        elements.append(bytes(memory[offset + 4:offset + 4 + length]))
        offset += 4 + length
    return elements


def join_elements(name, elements):
    parts = []
    for element in elements:
        if isinstance(element, str):
            element = element.encode()
        if not isinstance(element, (bytes, bytearray, memoryview)):
            raise TypeError(f"{name!r} holds {type(element).__name__}; BYTES are texts or bytes")
        element = bytes(element)
        parts.append(len(element).to_bytes(4, "little"))
        parts.append(element)
    return b"".join(parts)


def document_of(result):
    """What predict returned → (bytes, content type)."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str) \
            and isinstance(result[0], (bytes, bytearray, memoryview, str)):
        content, content_type = result
        return content.encode() if isinstance(content, str) else bytes(content), content_type
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result), "application/octet-stream"
    return json_document(result)


def json_document(result):
    text = json.dumps(result, default=plain, ensure_ascii=False, allow_nan=False,
                      separators=(",", ":"))
    return text.encode(), "application/json"


def plain(value):
    """NumPy's and pandas' values as JSON has them."""
    for attribute in ("tolist", "to_dict", "isoformat"):
        convert = getattr(value, attribute, None)
        if callable(convert):
            return convert()
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
