"""What both transports share: limits, headers, and words for what the operating system says."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from dataclasses import dataclass
from typing import Dict, List, Tuple

from ._exchange import Request
from ._settings import Settings
from .errors import BadReply, ConnectionFailed, InvalidArgument, TimedOut

KEPT_CONNECTIONS = 16  # idle ones, by client
KEPT_SECONDS = 60.0  # less than the node's keep_alive_timeout
SMALL_BODY = 64 * 1024  # goes out with its head, in one piece
LONGEST_LINE = 16 << 20
LONGEST_HEAD = 64 * 1024


@dataclass(frozen=True)
class Limits:
    connect_timeout: float
    max_reply: int

    def too_long(self, length: int) -> BadReply:
        return BadReply(
            f"the reply has {length} bytes or more, and {self.max_reply} are allowed",
            "ask for fewer rows or outputs, or make the client with a larger max_reply=",
        )


def header_list(request: Request, settings: Settings) -> List[Tuple[str, str]]:
    headers = [("Host", settings.address.authority)]
    if settings.key:
        headers.append(("Authorization", f"Bearer {settings.key}"))
    headers += request.headers.items()
    if request.method in ("POST", "PUT", "PATCH") or request.length:
        headers.append(("Content-Length", str(request.length)))
    for name, value in headers:
        if any(not " " <= c <= "~" for c in value):
            raise InvalidArgument(f"{name}: only visible ASCII characters can be sent there")
    return headers


def can_read(descriptor: int) -> bool:
    """Without waiting."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def unreachable(error: OSError, settings: Settings) -> Exception:
    """Why no connection came to be. Nothing was sent."""
    where = f"cannot reach the node at {settings.url}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            f"{where}: its certificate is not trusted: {error.verify_message}",
            "name the authority that vouches for it: MAYFLY_CA, or ca=",
        )
    if isinstance(error, ssl.SSLError):
        return ConnectionFailed(
            f"{where}: {error.reason or error}",
            "a node that speaks plain HTTP has an http:// URL; one that demands a certificate needs client_cert= and client_key=",
        )
    if isinstance(error, socket.timeout):
        return TimedOut(f"{where}: it did not accept a connection in time")
    if isinstance(error, socket.gaierror):
        return ConnectionFailed(f"{where}: the name '{settings.address.host}' is not known")
    hints: Dict[int, str] = {
        errno.ECONNREFUSED: "is `mayfly serve` running? MAYFLY_URL or url= says where",
        errno.ENOENT: "there is no such socket file: is `mayfly serve` running?",
        errno.EACCES: "only the owner of a socket file may use it",
    }
    number = error.errno
    if number is None and "Connect call failed" in str(error):  # asyncio, of several addresses
        number = errno.ECONNREFUSED
    what = os.strerror(number) if number else str(error)
    return ConnectionFailed(f"{where}: {what}", hints.get(number or 0, ""))


def broken(error: Exception, settings: Settings) -> ConnectionFailed:
    """The node hung up after something was sent."""
    return ConnectionFailed(
        f"the connection to {settings.url} broke: {str(error) or type(error).__name__}",
        "the node may or may not have done what was asked",
        sent=True,
    )


def timed_out(request: Request, settings: Settings) -> TimedOut:
    return TimedOut(
        f"no answer from {settings.url} to {request.method} {request.target} in time",
        "pass a longer timeout=; the node may still be at work",
    )
