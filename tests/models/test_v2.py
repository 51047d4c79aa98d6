from __future__ import annotations

import json

import numpy as np
import pytest

from detrojan.errors import ModelError
from detrojan.models.v2 import LENGTH, Tensor, answer, feed, tensors_of


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
