"""Where a function is on a node, by the protocol that asks for it."""

from __future__ import annotations

from urllib.parse import quote

from .errors import InvalidArgument


def segment(text: str) -> str:
    return quote(text, safe="@")


def function_path(name: str) -> str:
    return "/api/v1/functions/" + _named(name)


def model_path(name: str) -> str:
    return "/v2/models/" + _named(name)


def invoke_path(name: str) -> str:
    return "/functions/" + _named(name)


def _named(name: str) -> str:
    if not name:
        raise InvalidArgument("a function's name is empty")
    return segment(name)
