"""Who gets how much of a function's traffic. No I/O here."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ._control import get_json, send_json
from ._exchange import Patience, Steps
from ._paths import function_path, segment
from .types import Traffic

_CHANGED = {
    "conflict": "somebody else changed it meanwhile: look at traffic(name), then decide again"
}


def traffic(
    patience: Patience,
    name: str,
    weights: Optional[Mapping[int, int]],
    shadows: Optional[Mapping[int, int]],
    sticky_header: Optional[str],
) -> Steps[Traffic]:
    path = function_path(name) + "/traffic"
    if weights is None and shadows is None and sticky_header is None:
        return get_json(path, patience, Traffic.of)
    change: Dict[str, Any] = {}
    if weights is not None:
        change["weights"] = {str(version): share for version, share in weights.items()}
    if shadows is not None:
        change["shadows"] = {str(version): share for version, share in shadows.items()}
    if sticky_header is not None:
        change["sticky_header"] = sticky_header
    return send_json("PUT", path, change, patience, Traffic.of, _CHANGED)


def alias(
    patience: Patience, name: str, alias: str, version: Optional[int], why: str
) -> Steps[Traffic]:
    path = f"{function_path(name)}/aliases/{segment(alias)}"
    if version is None:
        return send_json("DELETE", path, None, patience, Traffic.of, _CHANGED)
    move = {"version": version, **({"why": why} if why else {})}
    return send_json("PUT", path, move, patience, Traffic.of, _CHANGED)


def rollback(patience: Patience, name: str) -> Steps[Traffic]:
    return send_json("POST", function_path(name) + "/rollback", None, patience, Traffic.of)
