"""What can go wrong, as exceptions.

`NodeError` and its kinds are answers of the node: they carry its HTTP status and its `reason`, a stable slug that
programs may match on (docs/openapi.yaml lists them). The others happen on this side of the wire.
"""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Type


class MayflyError(Exception):
    """The base of all. `message` says what is wrong, `hint` what to do about it; either may be shown to a person."""

    status: Optional[int] = None
    reason: str = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InvalidArgument(MayflyError, ValueError):
    """What was given cannot be sent: nothing was."""

    reason = "invalid_argument"


class MissingPackage(MayflyError, ImportError):
    """A package that this call needs is not installed; the message names it."""

    reason = "missing_package"


class ConnectionFailed(MayflyError):
    """The node could not be reached, or hung up. `sent`: whether it may have begun to do what was asked."""

    reason = "connection_failed"

    def __init__(self, message: str, hint: str = "", *, sent: bool = False) -> None:
        super().__init__(message, hint)
        self.sent = sent


class TimedOut(MayflyError):
    """The time given for a call passed on this side. The node may still be at work."""

    reason = "timed_out"


class BadReply(MayflyError):
    """The answer is not one of a node: cut off, longer than `max_reply`, or not in its form."""

    reason = "bad_reply"


class NodeError(MayflyError):
    """The node refused, or failed."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        status: int,
        reason: str = "",
        retry_after: Optional[float] = None,
        invocation: Optional[str] = None,
        traceback: Sequence[str] = (),
    ) -> None:
        super().__init__(message, hint)
        self.traceback = list(traceback)  # lines of the function's own code, for keys that may read its logs
        self.status: int = status
        self.reason = reason
        self.retry_after = retry_after  # seconds, of what may be tried again
        self.invocation = invocation  # the record in the ledger, of a prediction

    def __str__(self) -> str:
        told = f"{self.message} ({self.status} {self.reason})" if self.reason else self.message
        return f"{told}\nhint: {self.hint}" if self.hint else told


class InvalidRequest(NodeError):
    """400, 405, 413, 415, 422, 431: mend what is sent."""


class Unauthenticated(NodeError):
    """401: no key, or none that is valid."""


class PermissionDenied(NodeError):
    """403: the key lacks a scope."""


class NotFound(NodeError):
    """404: no such function, version, event or path. 410: the event's result was kept for its time."""


class Conflict(NodeError):
    """409: the state forbids it."""


class Busy(NodeError):
    """429, 503: not now. It was tried again within the call's time and `retries`."""


class ExecutionFailed(NodeError):
    """500: the instance crashed or ran out of memory, or the node has a fault."""


class Unsupported(NodeError):
    """501: this node does not serve that."""


class DeadlineExceeded(NodeError):
    """504: the node gave up."""


class EventFailed(NodeError):
    """422 of an event that ended without a result: given up, expired or cancelled. The message says why."""


class JobFailed(MayflyError):
    """A job ended without a result: `state` says whether it failed, was cancelled or expired, `reason` and the message why."""

    def __init__(self, job: str, state: str, reason: str, error: str) -> None:
        became = {"cancelled": "was cancelled", "expired": "has expired"}.get(state, state)
        told = f"the job {job} {became}"
        super().__init__(f"{told}: {error}" if error else told, _HINTS.get(reason, ""))
        self.job = job  # its id
        self.state = state
        self.reason = reason or state

    def __str__(self) -> str:
        told = f"{self.message} ({self.reason})"
        return f"{told}\nhint: {self.hint}" if self.hint else told


_KINDS: Dict[int, Type[NodeError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: InvalidRequest,
    409: Conflict,
    410: NotFound,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Busy,
    431: InvalidRequest,
    500: ExecutionFailed,
    501: Unsupported,
    503: Busy,
    504: DeadlineExceeded,
}

_KINDS_OF_REASONS: Dict[str, Type[NodeError]] = {
    "event_dead": EventFailed,
    "event_expired": EventFailed,
    "event_cancelled": EventFailed,
}

_HINTS: Dict[str, str] = {
    "unauthenticated": "this node has keys: set MAYFLY_KEY, or pass key=… to the client",
    "missing_scope": "make a key that has it: mayfly key create --scope …",
    "forbidden_host": "add the name to server.hosts of the node",
    "unknown_function": "functions() lists what there is; deploy() makes one",
    "unknown_version": "versions(name) lists them",
    "invalid_input": "describe(name).inputs says what it takes",
    "model_error": "describe(name).inputs says what it takes; the words are the model's own",
    "unsupported_media_type": "pictures are sent with content_type='image/png' or 'image/jpeg'",
    "too_large": "the message names the limit: raise it on the node, or send less at once",
    "queue_full": "send fewer at once, or raise it: configure(name, queue_limit=…)",
    "quota_exceeded": "the project's quota: mayfly project quota",
    "repeated_crashes": "these inputs keep killing instances: see logs(name)",
    "memory_pressure": "evict(name) frees what is idle; `mayfly top` says who uses the memory",
    "storage_full": "the node's disk is full",
    "start_failed": "logs(name) and `mayfly top` say why no instance starts",
    "instance_crashed": "logs(name) has what it printed",
    "function_error": "logs(name) has its traceback",
    "out_of_memory": "deploy again with more: options={'memory': '1GiB'}",
    "deadline_exceeded": "deploy again with more time: options={'timeout': '2m'}, or pass a longer timeout",
    "hopeless_deadline": "too many wait before it: allow more time, or more instances",
    "invalid_manifest": "docs/configuration.md lists the options of a version",
    "invalid_setting": "docs/configuration.md lists the settings of a function",
    "publish_failed": "it may need more: options={'publish_memory': '4GiB', 'publish_timeout': '30m'}",
    "recent_traffic": "pass force=True to go on",
    "event_dead": "redrive(event) gives it all its attempts again",
    "result_gone": "keep results longer: configure(name, result_ttl='7d')",
}


def node_error(
    status: int,
    message: str,
    reason: str = "",
    *,
    hint: str = "",
    retry_after: Optional[float] = None,
    invocation: Optional[str] = None,
    traceback: Sequence[str] = (),
) -> NodeError:
    """The kind that the status means. The node's own hint, where it gives one, goes before ours."""
    kind = _KINDS_OF_REASONS.get(reason) or _KINDS.get(status, NodeError)
    return kind(
        message or f"the node answered {status}",
        hint or _HINTS.get(reason, ""),
        status=status,
        reason=reason,
        retry_after=retry_after,
        invocation=invocation,
        traceback=traceback,
    )
