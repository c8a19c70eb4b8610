"""A server that answers as a test says: what a node does only when things go wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

CLOSE = b""  # instead of a reply: hangs up


@dataclass
class Heard:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int  # counted from 1


@dataclass
class Scripted:
    """Answers each request with the next of `replies`: bytes as they are, or CLOSE, or what a function of the request
    returns. `unix`: the path of a socket file to listen at."""

    replies: list[bytes | Callable[[Heard], bytes]]
    unix: str = ""
    lingers: float = 0.0  # seconds before it hangs up; then bodies are not read
    heard: list[Heard] = field(default_factory=list)

    def __enter__(self) -> Scripted:
        family = socket.AF_UNIX if self.unix else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.bind(self.unix or ("127.0.0.1", 0))
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        for sock in (self._listener, *self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    @property
    def url(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            number = len(self._open)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        stream = connection.makefile("rb")
        try:
            while first := stream.readline():
                method, target, _ = first.decode().split()
                headers = {}
                while (line := stream.readline().decode().strip()) != "":
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                length = int(headers.get("content-length", 0))
                body = b"" if self.lingers else stream.read(length)
                heard = Heard(method, target, headers, body, number)
                self.heard.append(heard)
                reply = self.replies.pop(0) if self.replies else CLOSE
                content = reply(heard) if callable(reply) else reply
                if content == CLOSE:
                    break
                connection.sendall(content)
                if b"Connection: close" in content:
                    time.sleep(self.lingers)
                    break
        except OSError:
            pass
        finally:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()


def reply(status: int, body: bytes = b"{}", **headers: str) -> bytes:
    """Header names are given with _ for -."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + body + (b"0\r\n\r\n" if end else b"")
