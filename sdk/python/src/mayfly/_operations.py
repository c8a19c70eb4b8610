"""Every call of the SDK, as an operation (`_exchange`) that both clients drive."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union
from urllib.parse import urlencode

import numpy as np

from ._artifact import read_artifact
from ._control import (
    FIRST_LOOK,
    LONGEST_LOOK,
    Progress,
    get_json,
    json_body,
    plain_value,
    read_as,
    send_json,
    upload,
)
from ._documents import answer_of, document_of, document_request, refuse_stream, takes_json
from ._exchange import (
    Patience,
    Pause,
    Request,
    Response,
    Steps,
    Work,
    check,
    error_of,
    exchange,
    json_of,
)
from ._paths import function_path, invoke_path, model_path, segment
from ._tensors import Array, array_for, decode_plain, decode_reply, encode_request
from .errors import BadReply, ConnectionFailed, InvalidArgument, InvalidRequest, TimedOut
from .types import (
    Deployment,
    Description,
    Event,
    Function,
    LogLine,
    Prediction,
    Signature,
    TensorSpec,
    Usage,
    Version,
)

T = TypeVar("T")

GRACE = 2.0  # seconds beyond a prediction's deadline for the node to say that it passed
_KEY_TAKEN = {
    "conflict": "the idempotency_key is another call's, with other inputs: give each call its own"
}
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


class Signatures:
    """What functions take, as the node told when they were first called. Forgotten when the node refuses what was made by
    it: another version may serve the function meanwhile."""

    def __init__(self) -> None:
        self._known: Dict[str, Signature] = {}

    def get(self, name: str, patience: Patience) -> Steps[Signature]:
        if name not in self._known:
            self._known[name] = yield from get_json(model_path(name), patience, Signature.of)
        return self._known[name]

    def forget(self, name: str) -> Optional[Signature]:
        return self._known.pop(name, None)

    def knows(self, name: str) -> bool:
        return name in self._known


# Predictions


def call(
    signatures: Signatures,
    patience: Patience,
    name: str,
    inputs: Any,
    *,
    outputs: Optional[Sequence[str]],
    timeout: Optional[float],
    content_type: Optional[str],
    key: Optional[str],
    request_id: Optional[str],
    priority: Optional[int],
) -> Steps[Any]:
    parameters: Dict[str, Any] = {}
    if timeout is not None:
        if timeout <= 0:
            raise InvalidArgument(f"timeout={timeout}: a number of seconds above 0")
        patience = replace(patience, timeout=timeout)
        parameters["timeout"] = max(1, round(timeout * 1e6))
    if priority is not None:
        parameters["priority"] = priority
    headers = _headers(key, request_id)
    raw = yield from _raw(inputs, content_type)

    def attempt(signature: Signature) -> Steps[Any]:
        if takes_json(signature):
            _check_document_options(name, outputs, priority)
            request = document_request(name, raw or document_of(inputs), headers)
            request = replace(request, on_head=lambda head: refuse_stream(name, head))
            return _answer((yield from exchange(request, patience)))
        if raw is not None:
            response = yield from exchange(_raw_request(name, raw, headers), patience)
            found = decode_plain(json_of(response), signature)
            return _prediction(found if outputs is None else _only(found, outputs), response)
        request = _tensor_request(name, inputs, signature, outputs, parameters, headers)
        grace = GRACE if timeout is not None else 0.0
        told = replace(patience, timeout=patience.timeout + grace)
        response = yield from exchange(request, told)
        return _prediction(_decode_tensors(response), response)

    return (yield from _with_signature(signatures, patience, name, attempt))


def _with_signature(
    signatures: Signatures, patience: Patience, name: str, attempt: Callable[[Signature], Steps[T]]
) -> Steps[T]:
    """Again with a fresh signature where a remembered one was not right: what refuses the inputs before they run may be a
    version that takes something else."""
    remembered = signatures.knows(name)
    signature = yield from signatures.get(name, patience)
    try:
        return (yield from attempt(signature))
    except (InvalidArgument, InvalidRequest) as error:
        if not remembered or error.reason not in ("invalid_input", "invalid_argument"):
            raise
        signatures.forget(name)
        fresh = yield from signatures.get(name, patience)
        if fresh == signature:
            raise
    return (yield from attempt(fresh))


def _headers(key: Optional[str], request_id: Optional[str]) -> Dict[str, str]:
    given = {"Mayfly-Key": key, "X-Request-Id": request_id}
    return {name: value for name, value in given.items() if value is not None}


def _check_document_options(
    name: str, outputs: Optional[Sequence[str]], priority: Optional[int]
) -> None:
    for option, value in (("outputs", outputs), ("priority", priority)):
        if value is not None:
            raise InvalidArgument(
                f"{option}= goes with tensors, and '{name}' takes JSON",
                "a function has tensors where it declares types",
            )


def _raw_request(name: str, raw: Tuple[bytes, str], headers: Mapping[str, str]) -> Request:
    body, content_type = raw
    return Request("POST", invoke_path(name), {"Content-Type": content_type, **headers}, [body])


def _tensor_request(
    name: str,
    inputs: Any,
    signature: Signature,
    outputs: Optional[Sequence[str]],
    parameters: Mapping[str, Any],
    headers: Mapping[str, str],
) -> Request:
    header, buffers = encode_request(bind(inputs, signature), outputs, parameters)
    about = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
        **headers,
    }
    hints = {"unsupported": f"one that streams is for stream('{name}', …)"}
    return Request("POST", model_path(name) + "/infer", about, [header, *buffers], hints=hints)


def _decode_tensors(response: Response) -> Dict[str, Array]:
    json_length = response.headers.get("inference-header-content-length")
    return decode_reply(response.body, int(json_length) if json_length else None)


def _raw(inputs: Any, content_type: Optional[str]) -> Steps[Optional[Tuple[bytes, str]]]:
    """The body and type of what is sent as it is: a picture, or what the caller gives a type; None: the signature decides."""
    if isinstance(inputs, Path):
        known = content_type or _PICTURES.get(inputs.suffix.lower())
        if known is None:
            raise InvalidArgument(
                f"{inputs}: its name does not say what it is", "pass content_type="
            )
        try:
            return (yield Work(inputs.read_bytes)), known
        except OSError as error:
            raise InvalidArgument(f"{inputs}: {error.strerror}") from error
    if content_type is None:
        return None
    if not isinstance(inputs, (bytes, bytearray, memoryview)):
        raise InvalidArgument(f"with content_type={content_type!r} the inputs are bytes or a Path")
    return bytes(inputs), content_type


def _only(found: Dict[str, Array], outputs: Sequence[str]) -> Dict[str, Array]:
    missing = [name for name in outputs if name not in found]
    if missing:
        raise InvalidArgument(f"there is no output '{missing[0]}': there are {', '.join(found)}")
    return {name: found[name] for name in outputs}


def bind(inputs: Any, signature: Signature) -> List[Tuple[TensorSpec, Array]]:
    """Which array goes to which input. `inputs`: by name, a DataFrame whose columns are inputs or the only one, or the only
    input by itself."""
    specs = {spec.name: spec for spec in signature.inputs}
    if hasattr(inputs, "columns") and hasattr(inputs, "to_numpy"):
        inputs = _columns(inputs, signature)
    if not isinstance(inputs, Mapping):
        if len(specs) != 1:
            raise InvalidArgument(
                f"expected a dict of the inputs: {_listed(signature.inputs)}, got one value"
            )
        inputs = {signature.inputs[0].name: inputs}
    unknown = [name for name in inputs if name not in specs]
    missing = [name for name in specs if name not in inputs]
    if unknown or missing:
        what = (
            f"there is no input '{unknown[0]}'" if unknown else f"input '{missing[0]}' is missing"
        )
        raise InvalidArgument(f"{what}; expected {_listed(signature.inputs)}")
    return [(specs[name], array_for(specs[name], value)) for name, value in inputs.items()]


def _columns(frame: Any, signature: Signature) -> Any:
    """Columns by the inputs' names; or all of them as the one input that the model has."""
    names = [str(column) for column in frame.columns]
    if len(set(names)) != len(names):
        raise InvalidArgument("the DataFrame has two columns of one name")
    frame = frame.set_axis(names, axis="columns")
    inputs = signature.inputs
    if len(inputs) == 1 and inputs[0].name not in names:
        return {inputs[0].name: frame.to_numpy()}
    missing = [spec.name for spec in inputs if spec.name not in names]
    if missing:
        raise InvalidArgument(
            f"the DataFrame has no column '{missing[0]}'; expected {_listed(inputs)}"
        )
    return {spec.name: np.asarray(frame[spec.name]) for spec in inputs}


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))


def _prediction(found: Mapping[str, Array], response: Response) -> Prediction:
    headers = response.headers
    prediction = Prediction(found)
    prediction.version = int(headers.get("mayfly-version", 0))
    prediction.start = headers.get("mayfly-start", "")
    prediction.invocation = headers.get("mayfly-invocation", "")
    prediction.request_id = headers.get("x-request-id", "")
    prediction.batch = int(headers.get("mayfly-batch", 1))
    prediction.cached = headers.get("mayfly-cache") == "hit"
    for part, took in re.findall(r"(\w+);dur=([\d.]+)", headers.get("server-timing", "")):
        if part in ("queue", "start", "run"):
            setattr(prediction, f"{part}_ms", float(took))
    return prediction


def _answer(response: Response) -> Any:
    found = answer_of(response)
    return _prediction(found, response) if isinstance(found, dict) else found


# Streams


class Chunks:
    """The chunks in the lines of a stream of server-sent events."""

    def __init__(self, name: str, signature: Signature) -> None:
        self._name = name
        self._signature = None if takes_json(signature) else signature
        self._kind = b""

    def read(self, line: bytes) -> List[Any]:
        """None or one. An error that ended the stream is raised."""
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        if field == b"event":
            self._kind = value
            return []
        if field != b"data":
            raise BadReply(f"the reply of '{self._name}' is no stream", "use call")
        try:
            told = json.loads(value)
        except ValueError as error:
            raise BadReply(f"the node sent a chunk that is not JSON: {error}") from error
        if self._kind == b"error":
            status = told.get("status", 500) if isinstance(told, dict) else 500
            raise error_of(int(status), told, {})
        return [told if self._signature is None else decode_plain(told, self._signature)]


def stream(
    signatures: Signatures,
    patience: Patience,
    name: str,
    inputs: Any,
    timeout: Optional[float],
    key: Optional[str],
    request_id: Optional[str],
) -> Steps[Tuple[Request, Chunks]]:
    """What to send, and what reads the reply's lines."""
    if timeout is not None and timeout <= 0:
        raise InvalidArgument(f"timeout={timeout}: a number of seconds above 0")
    signature = yield from signatures.get(name, patience)
    headers = {"Accept": "text/event-stream", **_headers(key, request_id)}
    if takes_json(signature):
        request = document_request(name, document_of(inputs), headers)
    else:
        arrays = {spec.name: array for spec, array in bind(inputs, signature)}
        body = json_body(arrays, plain_value)
        request = _raw_request(name, (body, "application/json"), headers)
    left = patience.timeout if timeout is None else timeout
    return replace(request, timeout=left), Chunks(name, signature)


# Events


def call_async(
    signatures: Signatures,
    patience: Patience,
    name: str,
    inputs: Any,
    *,
    outputs: Optional[Sequence[str]],
    content_type: Optional[str],
    key: Optional[str],
    request_id: Optional[str],
    priority: Optional[int],
    idempotency_key: Optional[str],
) -> Steps[Event]:
    headers = {"Prefer": "respond-async", **_headers(key, request_id)}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    parameters = {} if priority is None else {"priority": priority}
    repeatable = idempotency_key is not None  # the node then knows that it is the same event

    def send(request: Request) -> Steps[Event]:
        hints = {**request.hints, **_KEY_TAKEN}
        request = replace(request, repeatable=repeatable, hints=hints)
        response = yield from exchange(request, patience)
        if response.status != 202:
            raise BadReply("the node answered at once: it does not know of events")
        return read_as(Event.of, json_of(response))

    def attempt(signature: Signature) -> Steps[Event]:
        if takes_json(signature):
            _check_document_options(name, outputs, priority)
            return send(document_request(name, document_of(inputs), headers))
        return send(_tensor_request(name, inputs, signature, outputs, parameters, headers))

    raw = yield from _raw(inputs, content_type)
    if raw is not None:
        return (yield from send(_raw_request(name, raw, headers)))
    return (yield from _with_signature(signatures, patience, name, attempt))


def result(
    signatures: Signatures, patience: Patience, event: Union[str, Event], timeout: Optional[float]
) -> Steps[Any]:
    deadline = time.monotonic() + (patience.timeout if timeout is None else timeout)
    pause = FIRST_LOOK
    while True:
        request = Request("GET", _event_path(event), repeatable=True)
        response = yield from exchange(request, patience)
        if response.status != 202:
            return (yield from _result(signatures, patience, event, response))
        if time.monotonic() + pause > deadline:
            state = read_as(Event.of, json_of(response)).state
            raise TimedOut(
                f"the event {_id_of(event)} is still {state}",
                "ask again later: it goes on by itself",
            )
        yield Pause(pause)
        pause = min(2 * pause, LONGEST_LOOK)


def _result(
    signatures: Signatures, patience: Patience, event: Union[str, Event], response: Response
) -> Steps[Any]:
    if response.headers.get("inference-header-content-length"):
        return _prediction(_decode_tensors(response), response)
    plain = answer_of(response)
    if isinstance(plain, bytes):
        return plain
    if _says_tensors(plain):
        return _prediction(_decode_tensors(response), response)
    function = (yield from event_of(patience, event)).function
    signature = yield from signatures.get(function, patience)
    if takes_json(signature):
        return _answer(response)
    return _prediction(decode_plain(plain, signature), response)


def _says_tensors(plain: Any) -> bool:
    """A reply of Open Inference v2, to somebody who sent JSON there."""
    outputs = plain.get("outputs") if isinstance(plain, dict) and "model_name" in plain else None
    return isinstance(outputs, list) and all(
        isinstance(output, dict) and "datatype" in output for output in outputs
    )


def event_of(patience: Patience, event: Union[str, Event]) -> Steps[Event]:
    return get_json(_event_path(event) + "/state", patience, Event.of)


def events(patience: Patience, name: str, state: Optional[str], limit: int) -> Steps[List[Event]]:
    query = {"limit": str(limit), **({"state": state} if state else {})}
    path = f"{function_path(name)}/events?{urlencode(query)}"
    return get_json(path, patience, lambda raw: list(map(Event.of, raw["events"])))


def cancel(patience: Patience, event: Union[str, Event]) -> Steps[Event]:
    return send_json("DELETE", _event_path(event), None, patience, Event.of)


def redrive(patience: Patience, event: Union[str, Event]) -> Steps[Event]:
    return send_json("POST", _event_path(event) + "/redrive", None, patience, Event.of)


def _event_path(event: Union[str, Event]) -> str:
    return "/api/v1/events/" + segment(_id_of(event))


def _id_of(event: Union[str, Event]) -> str:
    found = event.id if isinstance(event, Event) else event
    if not found:
        raise InvalidArgument("an event's id is empty")
    return found


# Deploying


def deploy(
    patience: Patience,
    name: str,
    model: Any,
    *,
    example: Any,
    options: Optional[Mapping[str, Any]],
    traffic: int,
    rollout: Union[None, str, Mapping[str, Any]],
    on_progress: Optional[Progress],
) -> Steps[Deployment]:
    told: Progress = on_progress or (lambda line: None)
    path = function_path(name) + "/versions"
    if rollout not in (None, "auto") and not isinstance(rollout, Mapping):
        raise InvalidArgument(f"rollout={rollout!r}: 'auto', or a dict with a plan")
    artifact = yield Work(lambda: read_artifact(model, example, options))
    files = []
    for file in artifact.files:
        digest = yield Work(file.digest)
        yield from upload(patience, file, digest, told)
        files.append({"path": file.path, "sha256": digest, "size": file.size})
    body: Dict[str, Any] = {"files": files, "options": artifact.options}
    if rollout is None:
        body["traffic"] = traffic
    else:
        body["rollout"] = {} if rollout == "auto" else rollout
    return (yield from _publish(patience, path, body, told))


def _publish(
    patience: Patience, path: str, body: Mapping[str, Any], told: Progress
) -> Steps[Deployment]:
    lines: List[Any] = []

    def take(text: bytes) -> None:
        try:
            line = json.loads(text)
        except ValueError as error:
            raise BadReply(f"the node sent a line that is not JSON: {error}") from error
        if "step" in line:
            told(f"publishing: {line['step']}")
        else:
            lines.append(line)

    headers = {"Content-Type": "application/json", "Accept": "application/x-ndjson"}
    yield from exchange(Request("POST", path, headers, [json_body(body)], on_line=take), patience)
    last = lines[-1] if lines else {}
    if "error" in last:  # the stream began with 200: a failure after that is a line of its own
        raise error_of(int(last.get("status", 500)), last, {})
    if "result" not in last:
        raise BadReply("the node ended the deploy without a result", "its log says why")
    return read_as(Deployment.of, last["result"])


# The rest of the control API


def functions(patience: Patience) -> Steps[List[Function]]:
    return get_json("/api/v1/functions", patience, lambda raw: list(map(Function.of, raw["functions"])))


def versions(patience: Patience, name: str) -> Steps[List[Version]]:
    path = function_path(name) + "/versions"
    return get_json(path, patience, lambda raw: list(map(Version.of, raw["versions"])))


def describe(patience: Patience, name: str) -> Steps[Description]:
    return get_json(function_path(name), patience, Description.of)


def delete(patience: Patience, name: str, force: bool) -> Steps[None]:
    path = f"{function_path(name)}?force={str(force).lower()}"
    return send_json("DELETE", path, None, patience, lambda raw: None)


def logs(patience: Patience, name: str) -> Steps[List[LogLine]]:
    response = yield from exchange(logs_request(name, follow=False), patience)
    return [log_line(line) for line in bytes(response.body).splitlines() if line]


def logs_request(name: str, *, follow: bool, timeout: float = 0.0) -> Request:
    query = "?follow=true" if follow else ""
    function = name.partition("@")[0]
    target = f"{function_path(function)}/logs{query}"
    return Request("GET", target, timeout=timeout, repeatable=True)


def log_line(text: bytes) -> LogLine:
    return read_as(lambda line: LogLine.of(json.loads(line)), text)


def usage(
    patience: Patience, since: Union[None, str, datetime, timedelta], function: Optional[str]
) -> Steps[Usage]:
    query = {"since": since_text(since), "function": function or ""}
    given = {name: value for name, value in query.items() if value}
    return get_json("/api/v1/usage?" + urlencode(given), patience, Usage.of)


def since_text(since: Union[None, str, datetime, timedelta]) -> str:
    if isinstance(since, timedelta):
        return f"{max(0, int(since.total_seconds()))}s"
    if isinstance(since, datetime):  # a naive one means local time, as everywhere in datetime
        return since.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return since or ""


def configure(patience: Patience, name: str, settings: Mapping[str, Any]) -> Steps[Dict[str, Any]]:
    path = function_path(name) + "/settings"
    if not settings:
        return get_json(path, patience, dict)
    return send_json("PATCH", path, settings, patience, dict)


def evict(patience: Patience, name: str) -> Steps[int]:
    path = function_path(name) + "/evict"
    return send_json("POST", path, None, patience, lambda raw: int(raw["busy"]))


def is_ready(patience: Patience) -> Steps[bool]:
    """False also while nothing answers."""
    try:
        response: Response = yield Request("GET", "/v2/health/ready", timeout=patience.timeout)
    except ConnectionFailed:
        return False
    return response.status == 200
