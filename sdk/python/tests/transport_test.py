"""Connections, replies cut short, time and bounds: both transports against a server that misbehaves on purpose."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
import unittest
from pathlib import Path

import mayfly
import sdk_case
from scripted import CLOSE, Scripted, chunked, reply

NO_FUNCTIONS = reply(200, b'{"functions": []}')
SIGNATURE = reply(
    200, b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1]}], "outputs": []}'
)


class TransportCases(sdk_case.BothClients):
    def test_a_connection_is_used_again(self) -> None:
        with Scripted([NO_FUNCTIONS] * 3) as server:
            client = self.client(server.url)
            for _ in range(3):
                client.functions()
            self.assertEqual([heard.connection for heard in server.heard], [1, 1, 1])

    def test_a_connection_that_the_server_closed_is_not(self) -> None:
        closing = reply(200, b'{"functions": []}', Connection="close")
        with Scripted([closing, NO_FUNCTIONS]) as server:
            client = self.client(server.url)
            client.functions()
            client.functions()
            self.assertEqual([heard.connection for heard in server.heard], [1, 2])

    def test_one_that_was_closed_while_idle_is_replaced_before_it_is_used(self) -> None:
        idle = threading.Event()

        def answer_and_hang_up_later(heard) -> bytes:
            threading.Timer(
                0.05, lambda: (server._open[0].shutdown(socket.SHUT_RDWR), idle.set())
            ).start()
            return reply(200, b'{"evicted": "f", "busy": 0}')

        with Scripted(
            [answer_and_hang_up_later, reply(200, b'{"evicted": "f", "busy": 0}')]
        ) as server:
            client = self.client(server.url, retries=0)
            client.evict("f")
            self.assertTrue(idle.wait(10))
            client.evict(
                "f"
            )  # a POST is never sent twice, so the dead connection must have been seen
            self.assertEqual([heard.connection for heard in server.heard], [1, 2])

    def test_what_may_have_been_done_is_not_done_again(self) -> None:
        with Scripted([CLOSE]) as server:
            client = self.client(server.url)
            error = self.assertFails(mayfly.ConnectionFailed, client.evict, "f")
            self.assertTrue(error.sent)
            self.assertEqual(len(server.heard), 1)

    def test_what_only_reads_is_asked_again(self) -> None:
        with Scripted([CLOSE, NO_FUNCTIONS]) as server:
            self.assertEqual(self.client(server.url).functions(), [])
            self.assertEqual(len(server.heard), 2)

    def test_a_reply_in_chunks_or_until_the_end_is_read_whole(self) -> None:
        until_end = b'HTTP/1.1 200 Said\r\nConnection: close\r\n\r\n{"functions": []}'
        with Scripted([chunked(b'{"func', b'tions": ', b"[]}"), until_end]) as server:
            client = self.client(server.url)
            self.assertEqual(client.functions(), [])
            self.assertEqual(client.functions(), [])

    def test_a_reply_that_is_cut_off_is_an_error(self) -> None:
        cut = (
            b'HTTP/1.1 200 Said\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"evic',
            chunked(b'{"evicted"', end=False) + b"Connection: close",
            b"HTTP/1.1 200 Said\r\nConnection: close\r\nContent-Le",
        )
        for content in cut:
            with self.subTest(content=content), Scripted([content]) as server:
                client = self.client(server.url)
                self.assertFails(mayfly.MayflyError, client.evict, "f")

    def test_a_reply_longer_than_allowed_is_refused(self) -> None:
        long = b"x" * 1000
        for content in (reply(200, long), chunked(long), reply(200, long, Connection="close")):
            with self.subTest(content=content[:60]), Scripted([content]) as server:
                client = self.client(server.url, max_reply=999)
                self.assertFails(mayfly.BadReply, client.functions, text="max_reply")

    def test_something_that_is_no_node_is_said_to_be_none(self) -> None:
        with Scripted([b"SSH-2.0-Server\r\n\r\nConnection: close"]) as server:
            client = self.client(server.url)
            self.assertFails(mayfly.BadReply, client.evict, "f", text="HTTP/1.1")
        with Scripted([reply(200, b"<html>")]) as server:
            self.assertFails(mayfly.BadReply, self.client(server.url).functions, text="JSON")

    def test_time_passes_for_connecting_head_and_body_together(self) -> None:
        slow = b"HTTP/1.1 200 Said\r\nContent-Length: 100\r\n\r\n{"
        for content in (slow, b"HTTP/1.1 200"):
            with self.subTest(content=content), Scripted([content]) as server:
                client = self.client(server.url, timeout=0.3)
                begin = time.monotonic()
                self.assertFails(mayfly.TimedOut, client.functions, text="in time")
                self.assertLess(time.monotonic() - begin, 10)

    def test_a_refusal_is_heard_while_the_body_is_still_being_sent(self) -> None:
        refusal = reply(413, b'{"error": "too long", "reason": "too_large"}', Connection="close")
        with Scripted([SIGNATURE, refusal], lingers=0.2) as server:
            client = self.client(server.url)
            error = self.assertFails(
                mayfly.InvalidRequest, client.call, "f", {"x": bytes_of(64 << 20)}
            )
            self.assertEqual(error.reason, "too_large")

    def test_a_socket_file_is_an_address(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "node"))
            with Scripted([NO_FUNCTIONS], unix=path) as server:
                self.assertEqual(self.client(server.url).functions(), [])
                self.assertEqual(server.heard[0].headers["host"], "localhost")
            absent = self.client(f"unix:{folder}/absent", retries=0)
            self.assertFails(mayfly.ConnectionFailed, absent.functions, text="no such socket file")

    def test_an_address_where_nothing_listens_is_tried_a_few_times(self) -> None:
        with Scripted([]) as gone:
            url = gone.url
        client = self.client(url, retries=1)
        error = self.assertFails(mayfly.ConnectionFailed, client.evict, "f", text="mayfly serve")
        self.assertIn("Connection refused", error.message)
        self.assertFalse(error.sent)
        self.assertFalse(client.is_ready())

    def test_headers_carry_the_key_and_nothing_that_splits_them(self) -> None:
        with Scripted([NO_FUNCTIONS, SIGNATURE]) as server:
            client = self.client(server.url, key="mayfly_1_2")
            client.functions()
            self.assertEqual(server.heard[0].headers["authorization"], "Bearer mayfly_1_2")
            self.assertFails(mayfly.InvalidArgument, client.call, "f", [1], request_id="a\r\nX: y")
            self.assertEqual(len(server.heard), 2)  # the signature was asked for, the call not made

    def test_names_cannot_leave_their_place_in_the_path(self) -> None:
        with Scripted([reply(404)]) as server:
            client = self.client(server.url)
            self.assertFails(mayfly.NotFound, client.describe, "a/../b?c#d e@2")
            self.assertEqual(server.heard[0].target, "/api/v1/functions/a%2F..%2Fb%3Fc%23d%20e@2")


def bytes_of(size: int):
    import numpy as np

    return np.zeros(size, np.uint8)


class SyncTransportTest(TransportCases, unittest.TestCase):
    def test_threads_share_a_client(self) -> None:
        with Scripted([NO_FUNCTIONS] * 80) as server:
            client = self.client(server.url)
            failures = []

            def ask() -> None:
                try:
                    for _ in range(10):
                        client.functions()
                except Exception as error:
                    failures.append(error)

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(failures, [])
            self.assertLessEqual(max(heard.connection for heard in server.heard), 8)

    def test_a_forked_child_does_not_use_its_parents_connections(self) -> None:
        with Scripted([NO_FUNCTIONS] * 3) as server:
            client = self.client(server.url)
            client.functions()
            child = os.fork()
            if child == 0:
                client.functions()
                os._exit(0)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            client.functions()
            self.assertEqual([heard.connection for heard in server.heard], [1, 2, 1])


class AsyncTransportTest(TransportCases, unittest.TestCase):
    asynchronous = True

    def test_no_more_requests_than_allowed_are_under_way(self) -> None:
        import asyncio

        async def ask(url: str) -> None:
            async with mayfly.AsyncClient(url, max_connections=4) as client:
                await asyncio.gather(*(client.functions() for _ in range(40)))

        with Scripted([NO_FUNCTIONS] * 40) as server:
            asyncio.run(ask(server.url))
            self.assertEqual(len(server.heard), 40)
            self.assertLessEqual(max(heard.connection for heard in server.heard), 4)

    def test_a_cancelled_call_leaves_no_half_read_connection(self) -> None:
        import asyncio

        async def ask(url: str) -> None:
            async with mayfly.AsyncClient(url) as client:
                call = asyncio.ensure_future(client.evict("f"))
                await asyncio.sleep(0.2)
                call.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await call
                self.assertEqual(await client.functions(), [])

        with Scripted([b"HTTP/1.1 200 Said\r\nContent-Length: 9\r\n\r\n{", NO_FUNCTIONS]) as server:
            asyncio.run(ask(server.url))
            self.assertEqual([heard.connection for heard in server.heard], [1, 2])

    def test_a_client_survives_its_loop(self) -> None:
        import asyncio

        with Scripted([NO_FUNCTIONS] * 2) as server:
            client = mayfly.AsyncClient(server.url)
            for _ in range(2):
                self.assertEqual(asyncio.run(client.functions()), [])


if __name__ == "__main__":
    unittest.main()
