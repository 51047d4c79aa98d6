"""Nothing that a stranger sends is a fault of the server: never a 5xx, never a traceback."""

from __future__ import annotations

import json
import select
import socket
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from blobs import SIDE
from guard_service import running

PATH = "/v2/models/model/infer"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n".encode()
#: what is refused with a sentence
REFUSED = {400, 413, 415, 422}
_quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
GOOD = {"name": "images", "datatype": "FP32", "shape": [1, 1, SIDE, SIDE], "data": [0.5] * SIDE**2}
names = st.sampled_from(["name", "datatype", "shape", "data", "parameters", "more"])
KINDS = ["FP32", "FP16", "FP64", "UINT8", "INT64", "BYTES", "BOOL", "fp32", ""]


@pytest.fixture(scope="module")
def watched(world):
    """A service that has answered nothing with a 5xx when the tests of the file are done."""
    with running(world.guard) as found:
        yield found
        assert [event for event in found.events if event["level"] == "error"] == []
        assert 'status="5' not in found.client.get("/metrics").body.decode()
        assert found.client.infer(world.clean[:1]).status == 200


@_quick
@given(
    place=names,
    value=anything,
    around=st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), anything),
)
def test_one_wrong_part_of_a_right_request(watched, place, value, around):
    body = {"inputs": [{**GOOD, place: value}], **around}
    answer = watched.client.post(json.dumps(body).encode())
    assert answer.status in {200, *REFUSED}
    assert set(answer.json) == {"error"} or answer.status == 200


@_quick
@given(
    kind=st.sampled_from(KINDS),
    shape=st.lists(st.integers(0, 3) | st.sampled_from([SIDE, 2**31, 2**62]), max_size=5),
    content=st.binary(max_size=64) | st.sampled_from([b"\xff" * 4 * SIDE**2, b"\x00" * 4 * SIDE**2]),
    size=st.none() | st.integers(-1, 2**40),
)
def test_random_tensors(watched, kind, shape, content, size):
    stated = {"binary_data_size": len(content) if size is None else size}
    given_ = {"name": "images", "datatype": kind, "shape": shape, "parameters": stated}
    head = json.dumps({"inputs": [given_]}).encode()
    answer = watched.client.post(head + content, Inference_Header_Content_Length=str(len(head)))
    assert answer.status in {200, *REFUSED}


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.1, 6e4])
def test_numbers_that_no_image_has(watched, kind, value):
    content = np.full((1, 1, SIDE, SIDE), value, kind).tobytes()
    stated = {"binary_data_size": len(content)}
    name = {"<f2": "FP16", "<f4": "FP32", "<f8": "FP64"}[kind]
    given_ = {"name": "images", "datatype": name, "shape": [1, 1, SIDE, SIDE], "parameters": stated}
    head = json.dumps({"inputs": [given_]}).encode()
    answer = watched.client.post(head + content, Inference_Header_Content_Length=str(len(head)))
    assert (answer.status, "in [0, 1]" in answer.json["error"]) == (400, True)


@_quick
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
    body=st.binary(max_size=30),
)
def test_random_paths(watched, method, path, body):
    answer = watched.client.ask(method, f"/{path}", body)
    assert answer.status < 500


def received(connection):
    """Return the head of the answer, or nothing where the service has closed."""
    try:
        return connection.recv(1000)
    except ConnectionError:
        return b""


def test_a_hundred_megabytes_are_not_read(watched, world):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", watched.server.port), timeout=20) as stated:
        stated.sendall(HEAD + b"Content-Length: 104857600\r\n\r\n{")
        assert received(stated).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", watched.server.port), timeout=20) as chunked:
        chunked.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        while sent < 100 * 2**20 and not select.select([chunked], [], [], 0)[0]:
            chunked.sendall(chunk)
            sent += 65536
        assert received(chunked).startswith(b"HTTP/1.1 413")
        assert sent < 40 * 2**20, "16 MB are read, and what lies in buffers"
    assert watched.server.service.batcher.waiting == 0
    assert watched.client.infer(world.clean[:1]).status == 200


def test_slow_senders_stop_nobody_else(world):
    with running(world.guard, timeout=1.0) as found:
        port = found.server.port
        slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(30)]
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 3000\r\n\r\n{")
        began = time.monotonic()
        for _ in range(5):
            assert found.client.infer(world.clean[:1]).status == 200
            for connection in slow:
                connection.sendall(b" ")
        assert time.monotonic() - began < 0.9
        assert {received(connection)[:12] for connection in slow} == {b"HTTP/1.1 408"}
        for connection in slow:
            connection.close()
        assert found.client.infer(world.clean[:1]).status == 200
