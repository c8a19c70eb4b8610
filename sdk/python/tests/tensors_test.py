"""NumPy ↔ Open Inference v2, without a node."""

from __future__ import annotations

import json
import unittest

import numpy as np

import sdk_case  # noqa: F401
from mayfly import BadReply, InvalidArgument, TensorSpec
from mayfly._tensors import DTYPES, array_for, decode_reply, encode_request, shape_for


def spec(datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", datatype, shape)


def round_trip(datatype: str, array) -> np.ndarray:
    """What a node that echoes its input would give back."""
    array = array_for(spec(datatype, *np.shape(array)), array)
    header, buffers = encode_request([(spec(datatype, *array.shape), array)])
    tensor = json.loads(header)["inputs"][0]
    told = json.dumps({"outputs": [tensor]}).encode()
    return decode_reply(bytearray(told + b"".join(buffers)), len(told))["x"]


class RoundTripTest(unittest.TestCase):
    def test_every_number_comes_back_as_it_went(self) -> None:
        for datatype, dtype in DTYPES.items():
            edges = [0, 1] if dtype.kind == "b" else _edges(dtype)
            array = np.array([edges], dtype)
            back = round_trip(datatype, array)
            self.assertEqual(back.dtype, dtype)
            np.testing.assert_array_equal(back, array)

    def test_arrays_that_are_not_contiguous_or_big_endian_keep_their_values(self) -> None:
        array = np.arange(12, dtype=">f4").reshape(3, 4).T[::2]
        np.testing.assert_array_equal(round_trip("FP32", array), array)

    def test_texts_come_back_as_str_and_other_bytes_as_bytes(self) -> None:
        self.assertEqual(round_trip("BYTES", ["a", "", "äß"]).tolist(), ["a", "", "äß"])
        self.assertEqual(round_trip("BYTES", [b"\xff", b"ok"]).tolist(), [b"\xff", b"ok"])

    def test_bfloat16_is_rounded_to_even(self) -> None:
        given = np.array([1.0, 1.00390625, 1.01171875, -2.5, np.inf, np.nan], "f4")
        back = round_trip("BF16", given)
        np.testing.assert_array_equal(back, np.array([1, 1, 1.015625, -2.5, np.inf, np.nan], "f4"))

    def test_empty_tensors_keep_their_shape(self) -> None:
        self.assertEqual(round_trip("FP32", np.zeros((0, 3), "f4")).shape, (0, 3))
        self.assertEqual(round_trip("BYTES", np.zeros((0,), object)).shape, (0,))

    def test_numbers_are_not_copied_where_they_are_aligned(self) -> None:
        told = b'{"outputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}'
        told += b" " * (-len(told) % 8)
        array = decode_reply(bytearray(told + np.ones(2, "f4").tobytes()), len(told))["x"]
        self.assertIsNotNone(array.base)
        self.assertTrue(array.flags.writeable)


class ConversionTest(unittest.TestCase):
    def test_numbers_become_what_the_input_takes(self) -> None:
        for datatype, value in (
            ("FP32", 5),
            ("FP32", 5.0),
            ("INT64", 5.0),
            ("UINT8", True),
            ("FP16", np.float64(5)),
        ):
            array = array_for(spec(datatype, -1), value)
            self.assertEqual(array.dtype, DTYPES[datatype])
            self.assertEqual(array.shape, (1,))

    def test_what_would_lose_more_than_digits_is_refused(self) -> None:
        for datatype, value in (
            ("INT64", [1.5]),
            ("UINT8", [-1]),
            ("UINT8", [256]),
            ("INT32", [2**40]),
            ("INT64", [float("nan")]),
            ("FP32", ["1.5"]),
            ("FP32", [[1], [2, 3]]),
            ("FP32", [None]),
            ("BYTES", [1]),
            ("BYTES", ["a", None]),
        ):
            with self.subTest(datatype, value=value), self.assertRaisesRegex(
                InvalidArgument, "'x'"
            ):
                array_for(spec(datatype, -1), np.array(value, dtype=object))

    def test_dimensions_of_one_are_added_where_they_fit(self) -> None:
        for shape, wanted, expected in (
            ((), (-1,), (1,)),
            ((4,), (-1, 4), (1, 4)),
            ((7,), (-1, 1), (7, 1)),
            ((3, 4), (-1, 4), (3, 4)),
            ((3,), (-1, 4), (3,)),  # fits nowhere: the node says so
            ((1, 2, 3), (-1, 4), (1, 2, 3)),
        ):
            with self.subTest(shape=shape, wanted=wanted):
                self.assertEqual(shape_for(shape, wanted), expected)


class MalformedReplyTest(unittest.TestCase):
    def test_replies_that_lie_are_refused(self) -> None:
        def one(shape, size, datatype="FP32"):
            tensor = {"name": "x", "datatype": datatype, "shape": shape}
            return {"outputs": [{**tensor, "parameters": {"binary_data_size": size}}]}

        for told, data in (
            (b"", b""),
            (b"{", b""),
            (b"[]", b""),
            (b"{}", b""),
            (json.dumps(one([2], 8)).encode(), b"1234"),
            (json.dumps(one([3], 8)).encode(), b"12345678"),
            (json.dumps(one([1], 4, "FP33")).encode(), b"1234"),
            (json.dumps(one([1], 5, "BYTES")).encode(), b"\x09\x00\x00\x00a"),
            (json.dumps(one([1], 2, "BYTES")).encode(), b"\x09\x00"),
        ):
            with self.subTest(told=told, data=data), self.assertRaises(BadReply):
                decode_reply(bytearray(told + data), len(told))
        with self.assertRaises(BadReply):
            decode_reply(bytearray(b"{}"), 3)


def _edges(dtype: np.dtype) -> list:
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return [0, -0.0, limits.max, limits.tiny, np.inf, np.nan]
    limits = np.iinfo(dtype)
    return [limits.min, 0, limits.max]


if __name__ == "__main__":
    unittest.main()
