"""Hostile model files end in one line, in little memory and time."""

import re

import pytest

import hostile_models as models


@pytest.mark.parametrize(
    ("make", "says"), models.CASES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_hostile_model_is_refused_in_one_line(tmp_path, refused, make, says):
    path = tmp_path / "model.bin"
    make(path)
    said = refused("scan", path, "--data", "none")
    assert str(path) in said
    assert re.search(says, said), said


def test_a_name_that_no_file_can_have_is_refused(refused):
    assert "does not exist" in refused("scan", "a" * 5000, "--data", "none")
