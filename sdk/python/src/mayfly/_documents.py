"""Functions without types: JSON or bytes in, what their JSON says or bytes out. No I/O here."""

from __future__ import annotations

from typing import Any, Mapping, Tuple

from ._control import json_body, plain_value
from ._exchange import Request, Response, json_of
from ._paths import invoke_path
from .errors import BadReply, InvalidArgument
from .types import Signature

_BYTES = (bytes, bytearray, memoryview)
_HINTS = {
    "invalid_input": "it takes JSON, or any bytes with their content_type=: the message says what was not that"
}


def takes_json(signature: Signature) -> bool:
    """A function without types: its body and content type are what the protocol has instead."""
    return [spec.name for spec in signature.inputs] == ["body", "content_type"]


def document_of(inputs: Any) -> Tuple[bytes, str]:
    """The body and its type: bytes are sent as they are, also under the names that the protocol has for them; all else is
    JSON."""
    if isinstance(inputs, _BYTES):
        return bytes(inputs), "application/octet-stream"
    if isinstance(inputs, Mapping) and inputs.keys() <= {"body", "content_type"}:
        if isinstance(inputs.get("body"), _BYTES):
            kind = inputs.get("content_type", "application/octet-stream")
            return bytes(inputs["body"]), str(kind)
    if hasattr(inputs, "columns") and hasattr(inputs, "to_numpy"):
        raise InvalidArgument(
            "a DataFrame has no form in JSON, and this function declares no types",
            "call it with frame.to_dict('records') or the like; batch(name, frame) asks it for each row",
        )
    return json_body(inputs, plain_value, nan=False), "application/json"


def document_request(
    name: str, document: Tuple[bytes, str], headers: Mapping[str, str]
) -> Request:
    body, content_type = document
    return Request(
        "POST", invoke_path(name), {"Content-Type": content_type, **headers}, [body], hints=_HINTS
    )


def refuse_stream(name: str, headers: Mapping[str, str]) -> None:
    """Before its first chunk is waited for."""
    if _kind_of(headers) == "text/event-stream":
        raise BadReply(f"'{name}' streams its replies", f"use stream('{name}', …)")


def answer_of(response: Response) -> Any:
    """What its JSON says; bytes of any other type."""
    if _kind_of(response.headers) != "application/json":
        return bytes(response.body)
    return json_of(response)


def _kind_of(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
