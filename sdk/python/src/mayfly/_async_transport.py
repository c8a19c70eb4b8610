"""Requests over asyncio's streams, over connections that are kept. All of it on the loop of who calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import AsyncGenerator, AsyncIterator, Awaitable, Dict, List, NoReturn, Optional, Tuple, TypeVar

from ._exchange import FileBody, FileSink, Request, Response, check
from ._http import (
    KEPT_CONNECTIONS,
    KEPT_SECONDS,
    LONGEST_HEAD,
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
from .errors import BadReply, TimedOut

T = TypeVar("T")

_PIECE = 1 << 20


def encode_head(request: Request, settings: Settings) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in header_list(request, settings)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def parse_head(head: bytes) -> Tuple[int, Dict[str, str]]:
    """The status and the headers of a reply, their names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise BadReply("what answers there does not speak HTTP/1.1")
    headers: Dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return int(rest[:3]), headers


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since = 0.0

    def is_stale(self) -> bool:
        """Closed by the node, or about to be."""
        if time.monotonic() - self.idle_since > KEPT_SECONDS or self.writer.is_closing():
            return True
        # The loop may not have looked since. Nothing was asked: what can be read is the end.
        return self.reader.at_eof() or can_read(self.writer.get_extra_info("socket").fileno())

    def close(self) -> None:
        self.writer.close()


class _Reply:
    """A reply whose body has not been read."""

    def __init__(self, connection: _Connection, method: str, status: int, headers: Dict[str, str]):
        self.connection = connection
        self.status = status
        self.headers = headers
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        if length and not length.isdigit():
            raise BadReply("the reply's Content-Length is no number")
        self.length: Optional[int] = None if self.chunked or not length else int(length)
        if method == "HEAD" or status in (204, 304):
            self.length, self.chunked = 0, False

    @property
    def keeps(self) -> bool:
        """Whether the connection can be used again once the body has been read."""
        told = self.headers.get("connection", "").lower()
        return told != "close" and (self.chunked or self.length is not None)

    async def pieces(self) -> AsyncIterator[bytes]:
        reader = self.connection.reader
        if self.chunked:
            while size := _chunk_size(await reader.readuntil(b"\r\n")):
                while size:
                    piece = await self._some(size)
                    size -= len(piece)
                    yield piece
                await reader.readexactly(2)
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return
        left = self.length
        while left is None or left > 0:
            piece = await reader.read(_PIECE if left is None else min(left, _PIECE))
            if not piece and left is None:
                return
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left = None if left is None else left - len(piece)
            yield piece

    async def _some(self, size: int) -> bytes:
        piece = await self.connection.reader.read(min(size, _PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        return piece

    async def lines(self) -> AsyncIterator[bytes]:
        """Those that are not empty."""
        pending = b""
        async for piece in self.pieces():
            *whole, pending = (pending + piece).split(b"\n")
            if len(pending) > LONGEST_LINE:
                raise BadReply(f"the node sent a line of more than {LONGEST_LINE} bytes")
            for line in filter(bytes.strip, whole):
                yield line
        if pending.strip():
            yield pending


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";")[0].strip(), 16)
    except ValueError:
        raise BadReply("the reply's chunks are malformed") from None


class AsyncTransport:
    def __init__(self, settings: Settings, limits: Limits, max_connections: int) -> None:
        self._settings = settings
        self._limits = limits
        self._context = tls_context(settings)
        self._max_connections = max_connections
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._kept: List[_Connection] = []
        self._turn: Optional[asyncio.Semaphore] = None

    async def close(self) -> None:
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()

    async def send(self, request: Request) -> Response:
        async with self._turns():
            return await self._in_time(self._send(request), request)

    async def lines(self, request: Request) -> AsyncGenerator[bytes, None]:
        """A reply without an end. Each line has `request.timeout` seconds to come."""
        self._enter_loop()
        reply = await self._in_time(self._exchange(request), request)
        try:
            if reply.status // 100 != 2:
                body = await self._in_time(self._body(reply), request)
                check(Response(reply.status, reply.headers, body), request.hints)
            lines = reply.lines()
            while True:
                try:
                    yield await self._in_time(lines.__anext__(), request)
                except StopAsyncIteration:
                    return
        except Exception as error:
            self._fail(error)
        finally:
            reply.connection.close()

    async def _in_time(self, work: Awaitable[T], request: Request) -> T:
        try:
            return await asyncio.wait_for(work, request.timeout)
        except asyncio.TimeoutError:
            raise timed_out(request, self._settings) from None

    def _enter_loop(self) -> None:
        """Connections belong to the loop they were made on: another asyncio.run starts without any."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._kept = loop, []
            self._turn = asyncio.Semaphore(self._max_connections)

    def _turns(self) -> asyncio.Semaphore:
        self._enter_loop()
        assert self._turn is not None
        return self._turn

    async def _send(self, request: Request) -> Response:
        reply = await self._exchange(request)
        try:
            body = bytearray()
            if request.on_head is not None and reply.status // 100 == 2:
                request.on_head(reply.headers)
            if request.on_line is not None and reply.status // 100 == 2:
                async for line in reply.lines():
                    request.on_line(line)
            elif request.into is not None and reply.status // 100 == 2:
                with FileSink(request.into) as sink:
                    async for piece in reply.pieces():
                        await asyncio.to_thread(sink.write, piece)
            else:
                body = await self._body(reply)
        except BaseException as error:
            reply.connection.close()
            self._fail(error)
        self._give_back(reply)
        return Response(reply.status, reply.headers, body)

    async def _exchange(self, request: Request) -> _Reply:
        """Up to the reply's head."""
        head = encode_head(request, self._settings)
        connection = await self._take()
        try:
            if request.length <= SMALL_BODY and not isinstance(request.body, FileBody):
                connection.writer.write(b"".join((head, *request.body)))
                status, headers = await _read_head(connection.reader)
            else:
                status, headers = await _write_and_read_head(connection, head, request)
            return _Reply(connection, request.method, status, headers)
        except BaseException as error:
            connection.close()
            self._fail(error)

    async def _take(self) -> _Connection:
        while self._kept:
            kept = self._kept.pop()
            if not kept.is_stale():
                return kept
            kept.close()
        address = self._settings.address
        try:
            if address.socket:
                opened = asyncio.open_unix_connection(address.socket, limit=LONGEST_HEAD)
            else:
                opened = asyncio.open_connection(
                    address.host, address.port, ssl=self._context, limit=LONGEST_HEAD
                )
            return _Connection(*await asyncio.wait_for(opened, self._limits.connect_timeout))
        except asyncio.TimeoutError:
            raise TimedOut(
                f"cannot reach the node at {self._settings.url}: "
                "it did not accept a connection in time"
            ) from None
        except OSError as error:
            raise unreachable(error, self._settings) from error

    def _give_back(self, reply: _Reply) -> None:
        if not reply.keeps or len(self._kept) >= KEPT_CONNECTIONS:
            reply.connection.close()
            return
        reply.connection.idle_since = time.monotonic()
        self._kept.append(reply.connection)

    async def _body(self, reply: _Reply) -> bytearray:
        if reply.length is not None and reply.length > self._limits.max_reply:
            raise self._limits.too_long(reply.length)
        body = bytearray()
        async for piece in reply.pieces():
            body += piece
            if len(body) > self._limits.max_reply:
                raise self._limits.too_long(len(body))
        return body

    def _fail(self, error: BaseException) -> NoReturn:
        """Raises the error in our own words, where it is not ours or the user's."""
        if isinstance(error, (OSError, EOFError, asyncio.LimitOverrunError)) and not isinstance(
            error, asyncio.TimeoutError
        ):
            raise broken(error, self._settings) from error
        raise error


async def _read_head(reader: asyncio.StreamReader) -> Tuple[int, Dict[str, str]]:
    while True:
        status, headers = parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
        if status >= 200:
            return status, headers


async def _write_and_read_head(
    connection: _Connection, head: bytes, request: Request
) -> Tuple[int, Dict[str, str]]:
    """Both at once: a node that refuses before it read all says so and hangs up, and asyncio's reader forgets what came
    once a write has failed."""
    reading = asyncio.ensure_future(_read_head(connection.reader))
    writing = asyncio.ensure_future(_write(connection.writer, head, request))
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            status, headers = await reading
            return status, {**headers, "connection": "close"}  # the rest of the body is not sent
        with contextlib.suppress(ConnectionError):
            writing.result()
        return await reading
    finally:
        for task in (reading, writing):
            task.cancel()
        await asyncio.wait({reading, writing})


async def _write(writer: asyncio.StreamWriter, head: bytes, request: Request) -> None:
    writer.transport.set_write_buffer_limits(
        0
    )  # drain waits for the socket: a refusal is read first
    writer.write(head)
    if isinstance(request.body, FileBody):
        pieces = request.body.pieces()
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            writer.write(piece)
            await writer.drain()
        return
    for buffer in request.body:
        for start in range(0, len(buffer), _PIECE):
            writer.write(memoryview(buffer)[start : start + _PIECE])
            await writer.drain()
