"""Requests by http.client, over connections that are kept. Safe for threads: a connection is used by one at a time."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
from typing import Dict, Iterator, List, NoReturn, Optional, Tuple

from ._exchange import Buffer, FileBody, FileSink, Request, Response, check
from ._http import (
    KEPT_CONNECTIONS,
    KEPT_SECONDS,
    LONGEST_LINE,
    SMALL_BODY,
    Limits,
    broken,
    can_read,
    header_list,
    timed_out,
    unreachable,
)
from ._settings import Settings
from ._tls import tls_context
from .errors import BadReply

_PIECE = 1 << 20


class _Connection(http.client.HTTPConnection):
    """To a host or a socket file, plain or over TLS."""

    def __init__(self, settings: Settings, context: Optional[ssl.SSLContext], timeout: float):
        self._address = settings.address
        self._context = context
        self.idle_since = 0.0
        super().__init__(self._address.host, self._address.port or 80, timeout=timeout)

    def connect(self) -> None:
        if self._address.socket:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._address.socket)
            return
        super().connect()
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self._address.host)

    def set_deadline(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout()
        if self.sock is not None:  # none: the reply ends with the connection and has been read
            self.sock.settimeout(left)

    def abandon(self) -> None:
        """Closes this process's copy alone: TLS says nothing to the node."""
        if self.sock is not None:
            os.close(self.sock.detach())
            self.sock = None

    def is_stale(self) -> bool:
        """Closed by the node, or about to be."""
        if time.monotonic() - self.idle_since > KEPT_SECONDS or self.sock is None:
            return True
        return can_read(self.sock.fileno())  # nothing was asked: what can be read is the end


class SyncTransport:
    def __init__(self, settings: Settings, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        self._context = tls_context(settings)
        self._lock = threading.Lock()
        self._kept: List[_Connection] = []
        self._process = os.getpid()

    def close(self) -> None:
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def send(self, request: Request) -> Response:
        deadline = time.monotonic() + request.timeout
        connection, response = self._exchange(request, deadline)
        try:
            if request.on_head is not None and response.status // 100 == 2:
                request.on_head(_headers(response))
            if request.on_line is not None and response.status // 100 == 2:
                for line in self._lines(connection, response, deadline):
                    request.on_line(line)
                body = bytearray()
            elif request.into is not None and response.status // 100 == 2:
                with FileSink(request.into) as sink:
                    for piece in _pieces(connection, response, deadline):
                        sink.write(piece)
                body = bytearray()
            else:
                body = self._body(connection, response, deadline)
        except BaseException as error:
            connection.close()
            self._fail(error, request)
        self._give_back(connection, response)
        return Response(response.status, _headers(response), body)

    def lines(self, request: Request) -> Iterator[bytes]:
        """A reply without an end. Each line has `request.timeout` seconds to come."""
        connection, response = self._exchange(request, time.monotonic() + request.timeout)
        try:
            if response.status // 100 != 2:
                deadline = time.monotonic() + request.timeout
                body = self._body(connection, response, deadline)
                check(Response(response.status, _headers(response), body), request.hints)
            yield from self._lines(connection, response, None, request.timeout)
        except Exception as error:
            self._fail(error, request)
        finally:
            connection.close()

    def _exchange(
        self, request: Request, deadline: float
    ) -> Tuple[_Connection, http.client.HTTPResponse]:
        """Up to the reply's head."""
        headers = header_list(request, self._settings)
        connection = self._take(deadline)
        try:
            connection.set_deadline(deadline)
            try:
                _write(connection, request, headers, deadline)
            except (BrokenPipeError, ConnectionResetError):
                pass  # a node that refuses before it read all has said so, and hung up
            connection.set_deadline(deadline)
            return connection, connection.getresponse()
        except BaseException as error:
            connection.close()
            self._fail(error, request)

    def _take(self, deadline: float) -> _Connection:
        while (kept := self._take_kept()) is not None:
            if not kept.is_stale():
                return kept
            kept.close()
        left = deadline - time.monotonic()
        connection = _Connection(
            self._settings, self._context, max(0.001, min(left, self._limits.connect_timeout))
        )
        try:
            connection.connect()
            return connection
        except OSError as error:
            connection.close()
            raise unreachable(error, self._settings) from error

    def _take_kept(self) -> Optional[_Connection]:
        with self._lock:
            if self._process != os.getpid():  # a fork: they belong to the parent
                self._process = os.getpid()
                for connection in self._kept:
                    connection.abandon()
                self._kept.clear()
            return self._kept.pop() if self._kept else None

    def _give_back(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        if response.will_close or connection.sock is None:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        with self._lock:
            if len(self._kept) < KEPT_CONNECTIONS and self._process == os.getpid():
                self._kept.append(connection)
                return
        connection.close()

    def _body(
        self, connection: _Connection, response: http.client.HTTPResponse, deadline: float
    ) -> bytearray:
        length = response.length  # None: chunks, or until the end of the connection
        if length is not None and length > self._limits.max_reply:
            raise self._limits.too_long(length)
        body = bytearray(_PIECE if length is None else length)
        filled = 0
        while True:
            connection.set_deadline(deadline)
            with memoryview(body) as view:
                got = response.readinto(view[filled : filled + _PIECE])
            filled += got
            if got == 0 or filled == length:
                break
            if filled > self._limits.max_reply:
                raise self._limits.too_long(filled)
            if filled == len(body):
                body += bytes(len(body))
        if length is not None and filled < length:
            raise http.client.IncompleteRead(b"", length - filled)
        del body[filled:]
        return body

    def _lines(
        self,
        connection: _Connection,
        response: http.client.HTTPResponse,
        deadline: Optional[float],
        patience: float = 0.0,
    ) -> Iterator[bytes]:
        """Those that are not empty. By read1: readline takes a reply that was cut off for a whole one."""
        pending = bytearray()
        until = deadline or time.monotonic() + patience
        while True:
            connection.set_deadline(until)
            piece = response.read1(_PIECE)
            if not piece:
                break
            begin = 0
            while (end := piece.find(b"\n", begin)) >= 0:
                pending += piece[begin:end]
                begin = end + 1
                line = bytes(pending)
                pending.clear()
                if line.strip():
                    yield line
                until = deadline or time.monotonic() + patience
            pending += piece[begin:]
            if len(pending) > LONGEST_LINE:
                raise BadReply(f"the node sent a line of more than {LONGEST_LINE} bytes")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        if pending.strip():
            yield bytes(pending)

    def _fail(self, error: BaseException, request: Request) -> NoReturn:
        """Raises the error in our own words, where it is not ours or the user's."""
        where = self._settings.url
        if isinstance(error, socket.timeout):
            raise timed_out(request, self._settings) from error
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            raise BadReply(f"what answers at {where} does not speak HTTP/1.1") from error
        if isinstance(error, (OSError, http.client.HTTPException)):
            raise broken(error, self._settings) from error
        raise error


def _write(
    connection: _Connection, request: Request, headers: List[Tuple[str, str]], deadline: float
) -> None:
    connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    if isinstance(request.body, FileBody):
        connection.endheaders()
        _write_pieces(connection, request.body.pieces(), deadline)
    elif request.length <= SMALL_BODY:
        connection.endheaders(b"".join(request.body))
    else:
        connection.endheaders()
        _write_pieces(connection, iter(request.body), deadline)


def _write_pieces(connection: _Connection, pieces: Iterator[Buffer], deadline: float) -> None:
    for piece in pieces:
        connection.set_deadline(deadline)
        connection.send(piece)


def _pieces(
    connection: _Connection, response: http.client.HTTPResponse, deadline: float
) -> Iterator[bytes]:
    while True:
        connection.set_deadline(deadline)
        piece = response.read1(_PIECE)
        if not piece:
            break
        yield piece
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _headers(response: http.client.HTTPResponse) -> Dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
