"""Who may hold a connection for how long, and how many there may be: over real sockets, with short limits."""

from __future__ import annotations

import resource
import socket
import time
import unittest
from pathlib import Path

from case import NodeCase
from node import PATIENCE, Node, cpu_ticks

HEAD = b"GET /v2/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n"
REQUEST = HEAD + b"\r\n"


def dial(node: Node) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE)


def ask(connection: socket.socket, request: bytes = REQUEST) -> bytes:
    """One reply with a short body; what came before the end, if the connection ends."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received or not received.partition(b"\r\n\r\n")[2]:
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
        if b"Content-Length: 0\r\n" in received:
            break
    return received


def trickle(connection: socket.socket, byte: bytes, pause: float) -> bytes:
    """Sends a byte now and then until the server answers or closes; what it said."""
    connection.settimeout(pause)
    received = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            connection.sendall(byte)
            chunk = connection.recv(65536)
            if not chunk:
                return received
            received += chunk
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return received
    raise AssertionError("the server listens to a trickle for ever")


class SlowClientTest(NodeCase):
    functions = {"iris": "iris", "big": "big_reply"}
    arguments = (
        *("--header-timeout", "500ms"),
        *("--body-timeout", "500ms"),
        *("--write-timeout", "500ms"),
        *("--min-rate", "100KiB"),
    )

    def test_a_header_that_trickles_in_gets_408(self) -> None:
        with dial(self.node) as connection:
            connection.sendall(HEAD + b"X: ")
            received = trickle(connection, b"a", 0.1)
        self.assertTrue(received.startswith(b"HTTP/1.1 408 "), received)
        self.assertIn(b"Connection: close", received)

    def test_a_body_that_trickles_in_is_cut_off(self) -> None:
        with dial(self.node) as connection:
            connection.sendall(
                b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n{"
            )
            received = trickle(connection, b" ", 0.1)
        self.assertRegex(received, rb"^HTTP/1.1 (400|408|499|504) ")

    def test_who_takes_a_reply_too_slowly_loses_it(self) -> None:
        body = b'{"inputs":[{"name":"count","datatype":"INT64","shape":[1],"data":[2000000]}]}'
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(PATIENCE)
            connection.connect(("127.0.0.1", self.node.port))
            connection.sendall(
                b"POST /v2/models/big/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            taken = 0
            try:
                while chunk := connection.recv(1):
                    taken += len(chunk)
                    time.sleep(0.05)
                    if taken > 100:  # by now the server has long given up; the rest is in flight
                        while chunk := connection.recv(1 << 20):
                            taken += len(chunk)
                        break
            except ConnectionResetError:
                pass
            self.assertLess(taken, 8_000_000)
        self.assertEqual(self.node.example("iris").status, 200)

    def test_a_thousand_slow_clients_do_not_keep_others_from_being_served(self) -> None:
        slow = [dial(self.node) for _ in range(1000)]
        try:
            for connection in slow:
                connection.sendall(HEAD)
            for _ in range(20):
                self.assertEqual(self.node.example("iris").status, 200)
            for connection in slow:
                self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 408 "))
        finally:
            for connection in slow:
                connection.close()


class ConnectionLimitTest(NodeCase):
    arguments = ("--max-connections", "8", "--max-connections-per-address", "100")

    def test_the_longest_idle_connection_makes_room(self) -> None:
        kept = [dial(self.node) for _ in range(8)]
        for connection in kept:
            self.assertIn(b"200 OK", ask(connection))
        for _ in range(4):
            kept.append(dial(self.node))
            self.assertIn(b"200 OK", ask(kept[-1]))
            with kept.pop(0) as oldest:
                self.assertEqual(oldest.recv(1), b"")  # closed, without a word
        for connection in kept:
            self.assertIn(b"200 OK", ask(connection))
            connection.close()


class AddressLimitTest(NodeCase):
    arguments = ("--max-connections-per-address", "2")

    def served(self) -> socket.socket:
        """A connection that was accepted: those that asked whether the node is ready may still count."""
        found = []

        def is_served() -> bool:
            found.append(dial(self.node))
            if b"200 OK" in ask(found[-1]):
                return True
            found.pop().close()
            return False

        self.node.wait_until(is_served, "a connection is accepted")
        return found[-1]

    def test_an_address_has_its_own_limit(self) -> None:
        with self.served(), self.served():
            with dial(self.node) as third:
                refused = ask(third)
            self.assertTrue(refused.startswith(b"HTTP/1.1 503 "), refused)
            self.assertIn(b"node_busy", refused)
            with socket.socket() as other:
                other.settimeout(PATIENCE)
                other.bind(("127.0.0.2", 0))
                other.connect(("127.0.0.1", self.node.port))
                self.assertIn(b"200 OK", ask(other))


class DescriptorTest(unittest.TestCase):
    def test_without_descriptors_the_node_neither_spins_nor_dies(self) -> None:
        node = Node()
        self.addCleanup(node.close)
        pid = node.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        held = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (held + 10, limits[1]))
        connections = [dial(node) for _ in range(40)]
        try:
            before = cpu_ticks(pid)
            time.sleep(1)
            self.assertLess(cpu_ticks(pid) - before, 20)  # of 100: it waits, it does not try on
            # Idle ones make room, one after another; a newcomer may be one of them before it asks.
            def is_served() -> bool:
                try:
                    with dial(node) as newcomer:
                        return b"200 OK" in ask(newcomer)
                except ConnectionError:
                    return False

            node.wait_until(is_served, "somebody new is served")
        finally:
            for connection in connections:
                connection.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        node.wait_until(lambda: node.request("GET", "/v2/health/ready").status == 200, "it is well")
