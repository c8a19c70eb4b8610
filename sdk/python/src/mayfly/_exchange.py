"""What an operation asks of a transport, and when a request is made again. No I/O here.

An operation is a generator: it yields a step, is sent what came of it, and returns its result. The two clients drive the
same operations, one by blocking, one by awaiting.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import (
    Any,
    Callable,
    Generator,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Type,
    TypeVar,
    Union,
)

from .errors import (
    BadReply,
    Busy,
    ConnectionFailed,
    InvalidArgument,
    NodeError,
    TimedOut,
    node_error,
)

T = TypeVar("T")
Buffer = Union[bytes, memoryview]

PIECE = 1 << 20  # of a file, read and sent at a time


@dataclass(frozen=True)
class FileBody:
    """A part of a file, from `offset` to `size`, read as it is sent."""

    path: Path
    offset: int
    size: int

    def __len__(self) -> int:
        return self.size - self.offset

    def pieces(self) -> Iterator[bytes]:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            left = len(self)
            while left > 0:
                piece = file.read(min(PIECE, left))
                if not piece:
                    raise InvalidArgument(f"{self.path}: became shorter while it was uploaded")
                left -= len(piece)
                yield piece


Body = Union[Sequence[Buffer], FileBody]


class FileSink:
    """A file that a reply's body is written to as it comes. It has its name once all of it is there; until then, and when it
    breaks off, what was at that path stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")

    def __enter__(self) -> FileSink:
        with self._refusing():
            self._file = open(self._part, "wb")
        return self

    def write(self, piece: Buffer) -> None:
        with self._refusing():
            self._file.write(piece)

    def __exit__(self, kind: Optional[Type[BaseException]], *rest: Any) -> None:
        try:
            with self._refusing():
                self._file.close()
                if kind is None:
                    os.replace(self._part, self._path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._part.unlink()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # of this disk: transports would take it for the connection's
            raise InvalidArgument(f"{self._path}: {error.strerror}") from error


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = ()
    timeout: float = 0.0  # seconds for all of it
    on_line: Optional[Callable[[bytes], None]] = (
        None  # of a 2xx reply of lines, which then has no body
    )
    into: Optional[Path] = None  # a file for the body of a 2xx reply, which may then be of any length
    repeatable: bool = False  # doing it twice is doing it once
    on_head: Optional[Callable[[Mapping[str, str]], None]] = (
        None  # may refuse a 2xx reply by its headers, before its body comes
    )
    hints: Mapping[str, str] = field(default_factory=dict)  # by reason: what helps whoever asked this

    @property
    def length(self) -> int:
        return len(self.body) if isinstance(self.body, FileBody) else sum(map(len, self.body))


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytearray


@dataclass(frozen=True)
class Work:
    """Something slow that is no request: reading files, hashing, converting."""

    run: Callable[[], Any]


@dataclass(frozen=True)
class Pause:
    seconds: float


Step = Union[Request, Work, Pause]
Steps = Generator[Step, Any, T]


@dataclass(frozen=True)
class Patience:
    """How long a call goes on."""

    timeout: float  # seconds, repetitions and pauses included
    retries: int = 3  # further tries of what did not begin
    longest_pause: float = 30.0  # a node that asks for a longer one is not asked again


_FIRST_PAUSE = 0.1


def pause_before_retry(
    error: Exception, tries: int, patience: Patience, repeatable: bool = False
) -> Optional[float]:
    """Seconds until the next try; None: there is none. Only what certainly did not begin is tried again: the node was not
    reached, or it refused with 429 or 503 and said when to come back. `tries`: made so far. `repeatable`: doing it twice
    is doing it once, so that a connection that broke does not matter either."""
    if tries > patience.retries:
        return None
    if isinstance(error, Busy):
        pause = error.retry_after
    elif isinstance(error, ConnectionFailed) and (repeatable or not error.sent):
        pause = _FIRST_PAUSE * float(2 ** (tries - 1))
    else:
        pause = None
    return pause if pause is not None and pause <= patience.longest_pause else None


def exchange(
    request: Request, patience: Patience, clock: Callable[[], float] = time.monotonic
) -> Steps[Response]:
    """One request, again where that is safe. Raises NodeError for a reply that is not 2xx."""
    deadline = clock() + patience.timeout
    tries = 0
    while True:
        tries += 1
        left = deadline - clock()
        if left <= 0:
            raise TimedOut(f"no answer within {patience.timeout:g} s")
        try:
            response: Response = yield replace(request, timeout=left)
            return check(response, request.hints)
        except (NodeError, ConnectionFailed) as error:
            pause = pause_before_retry(error, tries, patience, request.repeatable)
            if pause is None or clock() + pause >= deadline:
                raise
        yield Pause(pause)


def check(response: Response, hints: Mapping[str, str] = {}) -> Response:
    if response.status // 100 == 2:
        return response
    told: Any = None
    try:
        told = json.loads(bytes(response.body))
    except ValueError:
        pass
    raise error_of(response.status, told, response.headers, hints)


def error_of(
    status: int, told: Any, headers: Mapping[str, str], hints: Mapping[str, str] = {}
) -> NodeError:
    told = told if isinstance(told, dict) else {}
    reason = str(told.get("reason", ""))
    return node_error(
        status,
        str(told.get("error", "")),
        reason,
        hint=str(told.get("hint", "")) or hints.get(reason, ""),
        retry_after=_seconds(headers.get("retry-after", "")),
        invocation=headers.get("mayfly-invocation"),
        traceback=_lines(told.get("traceback")),
    )


def _lines(told: Any) -> List[str]:
    return [line for line in told if isinstance(line, str)] if isinstance(told, list) else []


def json_of(response: Response) -> Any:
    try:
        return json.loads(bytes(response.body)) if response.body else None
    except ValueError as error:
        raise BadReply(f"the node answered with something that is not JSON: {error}") from error


def _seconds(text: str) -> Optional[float]:
    return float(text) if text.isdigit() else None
