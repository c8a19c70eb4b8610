"""Requests to the control API, and uploads: what its operations are made of."""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping, Optional, TypeVar

import numpy as np

from ._artifact import ArtifactFile
from ._exchange import Body, Patience, Pause, Request, Response, Steps, check, exchange, json_of
from .errors import BadReply, ConnectionFailed, InvalidArgument

T = TypeVar("T")

FIRST_LOOK, LONGEST_LOOK = 0.05, 1.0  # seconds between questions for what is under way
UPLOAD_TRIES = 5
UPLOAD_PAUSE = 0.05

Progress = Callable[[str], None]


def get_json(target: str, patience: Patience, read: Callable[[Any], T]) -> Steps[T]:
    response = yield from exchange(Request("GET", target, repeatable=True), patience)
    return read_as(read, json_of(response))


def send_json(
    method: str,
    target: str,
    body: Any,
    patience: Patience,
    read: Callable[[Any], T],
    hints: Mapping[str, str] = {},
) -> Steps[T]:
    if body is None:
        request = Request(method, target, hints=hints)
    else:
        headers = {"Content-Type": "application/json"}
        request = Request(method, target, headers, [json_body(body)], hints=hints)
    return read_as(read, json_of((yield from exchange(request, patience))))


def read_as(read: Callable[[Any], T], raw: Any) -> T:
    try:
        return read(raw)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BadReply(f"the node's reply is not as expected: {error!r}") from error


def json_body(
    value: Any, default: Optional[Callable[[Any], Any]] = None, *, nan: bool = True
) -> bytes:
    """`nan`: whether NaN and infinities, which JSON lacks, go in Python's spelling of them."""
    try:
        return json.dumps(value, default=default, allow_nan=nan).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"this cannot be sent as JSON: {error}") from error


def plain_value(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def upload(patience: Patience, file: ArtifactFile, digest: str, told: Progress) -> Steps[None]:
    """Sends what the node lacks. A connection that breaks is tried again, a few times without progress and with growing
    pauses, and goes on where it broke."""
    target = f"/api/v1/blobs/{digest}"
    size = {"Upload-Length": str(file.size)}
    reached, failures = -1, 0
    while True:
        try:
            offset = yield from _upload_offset(patience, target, size)
            if offset is None:
                return
            if offset > reached:
                reached, failures = offset, 0
            told(f"uploading {file.path}: {offset} of {file.size} bytes")
            part: Body = file.body(offset)
            headers = {"Upload-Offset": str(offset), **size}
            headers["Content-Type"] = "application/octet-stream"
            check((yield Request("PATCH", target, headers, part, patience.timeout)))
            return
        except ConnectionFailed:
            failures += 1
            if failures >= UPLOAD_TRIES:
                raise
        yield Pause(UPLOAD_PAUSE * 2.0**failures)


def _upload_offset(
    patience: Patience, target: str, size: Mapping[str, str]
) -> Steps[Optional[int]]:
    """None: the node has all of it."""
    response: Response = yield Request("HEAD", target, size, timeout=patience.timeout)
    offset = response.headers.get("upload-offset")
    if response.status == 404 and offset is not None:
        return int(offset)
    check(response)
    return None
