#!/usr/bin/python3 -I
"""How apt fetches http and https in a jail without network: over connections that the server hands to it. apt starts
this as a method of its own (the protocol is in apt's method.html) and checks signatures and digests itself."""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import socket
import ssl
import sys
from urllib.parse import unquote, urljoin, urlsplit

CERTIFICATES = "/certificates/ca-certificates.crt"
CONTROL = 9            # sandbox: the job's socket, kept open through apt
TURN = "/work/turn"    # one asks at a time, of all processes
PIECE = 1 << 16
MAX_REDIRECTS = 5
TIMEOUT = 60
PORTS = {"http": 80, "https": 443}


class Failed(Exception):
    """The words are apt's to show."""


def connect(host, port):
    """A connected socket, from the server."""
    with open(TURN, "w", encoding="utf-8") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        control = socket.socket(fileno=os.dup(CONTROL))
        with control:
            control.send(json.dumps({"connect": {"host": host, "port": port}}).encode())
            words, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
    if not descriptors:
        raise Failed(words.decode(errors="replace") or "the node is gone")
    connection = socket.socket(fileno=descriptors[0])
    connection.settimeout(TIMEOUT)
    return connection


class Method:
    def __init__(self):
        self._config = {}
        self._connections = {}

    def serve(self):
        self._say("100 Capabilities", ("Version", "1.2"), ("Send-Config", "true"),
                  ("Single-Instance", "true"), ("Send-URI-Encoded", "true"))
        for kind, fields in messages(sys.stdin):
            if kind.startswith("601"):
                self._config = dict(value.partition("=")[::2] for name, value in fields
                                    if name == "Config-Item")
            elif kind.startswith("600"):
                self._acquire(dict(fields))

    @staticmethod
    def _say(kind, *fields):
        lines = [kind] + [f"{name}: {str(value).replace(chr(10), ' ')}" for name, value in fields]
        sys.stdout.write("\n".join(lines) + "\n\n")
        sys.stdout.flush()

    def _acquire(self, wanted):
        uri = wanted["URI"]
        try:
            self._fetch(uri, wanted)
        except (Failed, OSError, http.client.HTTPException, ValueError) as error:
            self._connections.clear()
            self._say("400 URI Failure", ("URI", uri), ("Message", f"{type(error).__name__}: {error}"),
                      ("FailReason", getattr(error, "reason", "ConnectionFailed")),
                      ("Transient-Failure", "false"))

    def _fetch(self, uri, wanted):
        response = self._open(uri)
        size = response.getheader("Content-Length")
        limit = int(wanted.get("Maximum-Size", 1 << 40))
        about = [("URI", uri)] + ([("Size", size)] if size else [])
        self._say("200 URI Start", *about)
        hashes = {name: hashlib.new(name.lower()) for name in ("SHA256", "SHA512", "MD5", "SHA1")}
        got = 0
        with open(wanted["Filename"], "wb") as file:
            while piece := response.read(PIECE):
                got += len(piece)
                if got > limit:
                    raise Failed(f"it is longer than the {limit} bytes that were announced")
                file.write(piece)
                for each in hashes.values():
                    each.update(piece)
        digests = [(f"{name if name != 'MD5' else 'MD5Sum'}-Hash", each.hexdigest())
                   for name, each in hashes.items()]
        self._say("201 URI Done", ("URI", uri), ("Filename", wanted["Filename"]), ("Size", got), *digests)

    def _open(self, uri):
        for _ in range(MAX_REDIRECTS):
            response = self._ask(uri)
            if response.status == 200:
                return response
            response.read()
            if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
                uri = urljoin(uri, response.getheader("Location"))
                continue
            error = Failed(f"{response.status} {response.reason}")
            error.reason = f"HttpError{response.status}"
            raise error
        raise Failed("too many redirections")

    def _ask(self, uri):
        parts = urlsplit(uri)
        if parts.scheme not in PORTS:
            raise Failed(f"{parts.scheme}: is not fetched here")
        proxy = self._config.get(f"Acquire::{parts.scheme}::Proxy") or self._config.get("Acquire::http::Proxy")
        proxy = None if not proxy or proxy == "DIRECT" else urlsplit(unquote(proxy))
        place = (parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme])
        through_plain = proxy is not None and parts.scheme == "http"
        host = parts.netloc.rpartition("@")[2]  # a name and a password of the mirror are not sent
        bare = parts._replace(netloc=host) if through_plain else parts._replace(scheme="", netloc="")
        target = bare.geturl() or "/"
        headers = {"Host": host, "User-Agent": "apt"}
        for attempt in (1, 2):
            connection = self._connections.get(place) or self._connect(place, proxy)
            self._connections[place] = connection
            try:
                connection.request("GET", target, headers=headers)
                return connection.getresponse()
            except (OSError, http.client.HTTPException):
                del self._connections[place]  # it may have idled for too long
                if attempt == 2:
                    raise
        raise Failed("unreachable")

    @staticmethod
    def _connect(place, proxy):
        scheme, host, port = place
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        if proxy is not None:
            connection.sock = connect(proxy.hostname, proxy.port or PORTS["http"])
            if scheme == "https":
                tunnel(connection.sock, host, port)
        else:
            connection.sock = connect(host, port)
        if scheme == "https":
            context = ssl.create_default_context(cafile=CERTIFICATES)
            connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
        return connection


def tunnel(sock, host, port):
    sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(1)
        if not piece or len(head) > 8192:
            raise Failed("the proxy hung up")
        head += piece
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise Failed("the proxy refused: " + head.split(b"\r\n")[0].decode("latin-1"))


def messages(stream):
    """(first line, [(name, value)]) each."""
    kind, fields = None, []
    for line in stream:
        line = line.rstrip("\n")
        if not line:
            if kind is not None:
                yield kind, fields
            kind, fields = None, []
        elif kind is None:
            kind = line
        else:
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):  # apt is done with it
        Method().serve()
