from __future__ import annotations

import json

import numpy as np
import pytest

from detrojan.errors import ModelError
from detrojan.models.v2 import LENGTH, Tensor, answer, feed, outputs_of, tensors_of


def stated(*shape, kind="FP32"):
    return Tensor(name="x", datatype=kind, shape=shape)


def test_layout_and_limits_come_from_the_shape():
    assert feed(stated(-1, 3, 32, 48), "m").shape == (3, 32, 48)
    assert feed(stated(-1, 32, 48, 3), "m").layout == "NHWC"
    assert feed(stated(-1, 28, 28, 1), "m").shape == (1, 28, 28)
    assert feed(stated(-1, 3, 8, 8), "m", most=16).most == 16
    assert feed(stated(3, 8, 8), "m").exact == 1
    with pytest.raises(ModelError, match=r"expected images of \[3, 9, 9\]"):
        feed(stated(-1, 3, 8, 8), "m", shape=(3, 9, 9))
    with pytest.raises(ModelError, match="got x \\(BYTES"):
        feed(stated(-1, 3, 8, 8, kind="BYTES"), "m")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[1]",
        b'{"outputs": 3}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP99", "shape": [1], "data": [1]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": ["a"]}]}',
        b'{"outputs": [{"name": "y", "shape": [9], "parameters": {"binary_data_size": 4}}]}',
        b"[" * 100000,
    ],
)
def test_what_is_no_answer_is_an_error(body):
    with pytest.raises(ModelError, match=r"^m: expected"):
        answer(body, {}, "m")


def test_a_length_beyond_the_body_is_an_error():
    with pytest.raises(ModelError, match="of at most 2 bytes, got '9'"):
        answer(b"{}", {LENGTH: "9"}, "m")


def test_bytes_follow_the_json_in_the_order_of_the_outputs():
    head = json.dumps(
        {
            "outputs": [
                {"name": n, "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
                for n in ("a", "b")
            ]
        }
    ).encode()
    found = answer(head + np.arange(4, dtype="<f4").tobytes(), {LENGTH: str(len(head))}, "m")
    assert found["a"].tolist() == [[0, 1]]
    assert found["b"].tolist() == [[2, 3]]


def test_metadata_that_are_none_are_an_error():
    with pytest.raises(ModelError, match="expected metadata with inputs"):
        tensors_of({"inputs": [{"name": "x"}]}, "inputs", "m")


def packed(*outputs):
    """Return a body with binary outputs of (name, datatype, shape, bytes), and its headers."""
    head = json.dumps(
        {
            "outputs": [
                {"name": n, "datatype": d, "shape": s, "parameters": {"binary_data_size": len(raw)}}
                for n, d, s, raw in outputs
            ]
        }
    ).encode()
    return head + b"".join(raw for *_, raw in outputs), {LENGTH: str(len(head))}


def test_outputs_of_every_type_are_read():
    texts = b"\x02\x00\x00\x00hi\x00\x00\x00\x00"
    body, headers = packed(
        ("t", "BYTES", [2], texts), ("b", "BOOL", [3], b"\x01\x00\x01"), ("h", "BF16", [1], b"\x80\x3f")
    )
    _, found = outputs_of(body, headers, "m")
    assert {name: kind for name, (kind, _) in found.items()} == {"t": "BYTES", "b": "BOOL", "h": "BF16"}
    assert found["t"][1].tolist() == [b"hi", b""]
    assert found["b"][1].tolist() == [True, False, True]
    assert found["h"][1].tolist() == [0x3F80]
    listed = {"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "b"]}]}
    assert outputs_of(json.dumps(listed).encode(), {}, "m")[1]["t"][1].tolist() == [["a", "b"]]
    with pytest.raises(ModelError, match="expected an output with numbers, got t"):
        answer(body, headers, "m")


@pytest.mark.parametrize(
    "output",
    [
        ("t", "BYTES", [1], b"\x09\x00\x00\x00hi"),
        ("t", "BYTES", [2], b"\x00\x00\x00\x00"),
        ("t", "BYTES", [1], b"\x00\x00"),
        ("t", "FP32", [-1], b"\x00" * 8),
        ("t", "FP32", [2**40, 2**40], b"\x00" * 8),
        ("t", "FP32", [1], b"\x00" * 3),
    ],
)
def test_outputs_that_are_not_what_they_say_are_an_error(output):
    body, headers = packed(output)
    with pytest.raises(ModelError, match="m: expected an output with values of its shape"):
        outputs_of(body, headers, "m")
