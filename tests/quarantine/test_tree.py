"""What a child hands back is checked: it may be an attacker's by then."""

import json
import os

import numpy as np
import pytest

from detrojan.quarantine.tree import TreeError, fill, read, written


@pytest.fixture
def memory(tmp_path):
    """Return a file descriptor to share."""
    file = os.open(tmp_path / "shared", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 1 << 20)
    yield file
    os.close(file)


def test_a_tree_comes_back(memory):
    value = {"a": [np.arange(5), (b"xy", 1.5)]}
    text, writer = written(value)
    fill(memory, writer)
    found = read(text, memory, 1 << 20)
    assert found["a"][1] == (b"xy", 1.5)
    np.testing.assert_array_equal(found["a"][0], np.arange(5))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": ["<f4", [2**40], 0]}, "outside of the shared memory"),
        ({"a": ["<f4", [4], 1 << 19]}, "outside of the shared memory"),
        ({"a": ["<f4", [4], -64]}, "outside of the shared memory"),
        ({"a": ["<f4", [4], 3]}, "outside of the shared memory"),
        ({"a": ["<f4", [-1], 0]}, "impossible shape"),
        ({"a": ["<f4", [1.5], 0]}, "impossible shape"),
        ({"a": ["<f4", [1] * 40, 0]}, "impossible shape"),
        ({"a": ["|O", [1], 0]}, "not of plain numbers or texts"),
        ({"a": ["i4,O", [1], 0]}, "not of plain numbers or texts"),
        ({"a": [4, [1], 0]}, "not of plain numbers or texts"),
        ({"a": ["<f4", [1]]}, "another form"),
        ({"y": [-1, 0]}, "impossible shape"),
        ({"T": ["load", [1], 0]}, "a tensor of 'load'"),
        ({"T": ["__class__", [1], 0]}, "a tensor of '__class__'"),
        ({"t": 3}, "another form"),
        ({"d": [[[1], 2]]}, "a key that is no plain value"),
        ({"d": [3]}, "another form"),
        ({"p": 3}, "a path that is no text"),
        ({"q": 3}, "a value of the kind 'q'"),
        ({"a": 1, "b": 2}, "something that no tree holds"),
        (10**30, "more than 64 bits"),
        (json.loads("[" * 100 + "]" * 100), "nested deeper than 64"),
    ],
)
def test_what_no_child_of_ours_writes_is_refused(memory, value, says):
    with pytest.raises(TreeError, match=says):
        read(json.dumps({"value": value, "size": 4096}).encode(), memory, 1 << 20)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"value": 1}',
        b'{"value": 1, "size": true}',
        b'{"value": 1, "size": 2097152}',
    ],
)
def test_an_answer_that_is_none_is_refused(memory, text):
    with pytest.raises(TreeError, match=r"not JSON|without its size"):
        read(text, memory, 1 << 20)


def test_too_much_text_is_refused():
    with pytest.raises(TreeError, match="bytes of names and numbers"):
        written("x" * (17 << 20))
