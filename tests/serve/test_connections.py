"""Who begins a request and never ends its head is not waited for."""

import socket
import time

import pytest

ASKED = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("before", [b"", ASKED], ids=["at first", "after an answer"])
def test_a_head_that_does_not_come_closes_the_connection(world, serving, before):
    with (
        serving(world.guard, timeout=0.3) as found,
        socket.create_connection(("127.0.0.1", found.server.port), timeout=10) as slow,
    ):
        if before:
            slow.sendall(before)
            assert slow.recv(10_000).startswith(b"HTTP/1.1 200")
        slow.sendall(b"GET /v2 HTTP/1.1\r\nHost: loc")
        while slow.recv(10_000):
            pass
        assert found.client.get("/v2").status == 200


def test_a_connection_without_a_request_is_kept_for_the_next_one(world, serving):
    with (
        serving(world.guard, timeout=0.1) as found,
        socket.create_connection(("127.0.0.1", found.server.port), timeout=10) as idle,
    ):
        for _ in range(3):
            idle.sendall(ASKED)
            answer = b""
            while not answer.endswith(b'{"live": true}'):
                part = idle.recv(10_000)
                assert part, "the connection was closed"
                answer += part
            time.sleep(0.5)


def test_who_goes_on_sending_after_the_answer_is_not_listened_to(world, serving):
    begun = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with (
        serving(world.guard, timeout=0.3, body=0.01) as found,
        socket.create_connection(("127.0.0.1", found.server.port), timeout=10) as endless,
    ):
        endless.sendall(begun)
        began = time.monotonic()
        closed = False
        while not closed and time.monotonic() - began < 10:
            try:
                endless.sendall(b"100\r\n" + b"x" * 256 + b"\r\n")
            except ConnectionError:
                closed = True
            time.sleep(0.005)
        assert closed
        assert time.monotonic() - began < 5
