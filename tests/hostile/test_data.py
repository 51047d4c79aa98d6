"""Hostile data files end in one line, in little memory and time."""

import re

import pytest

import hostile_data as data


@pytest.mark.parametrize(
    ("make", "says"), data.CASES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_hostile_data_are_refused_in_one_line(tmp_path, refused, good, make, says):
    path = tmp_path / "data.bin"
    make(path)
    said = refused("evaluate", good, "--net", "mnist_cnn", "--data", path, "--unlabelled")
    assert str(path) in said
    assert re.search(says, said), said
