"""Hostile data files end in one line, in little memory and time."""

import re

import pytest
from PIL import Image

import hostile_data as data
from hostile.conftest import MOST_MEMORY


@pytest.mark.parametrize(
    ("make", "says"), data.CASES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_hostile_data_are_refused_in_one_line(tmp_path, refused, good, make, says):
    path = tmp_path / "data.bin"
    make(path)
    said = refused("evaluate", good, "--net", "mnist_cnn", "--data", path, "--unlabelled")
    assert str(path) in said
    assert re.search(says, said), said


def test_small_files_of_large_pictures_take_little_memory(tmp_path, driver, good):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (7000, 7000)).save(folder / "0.png")
    for number in range(1, 4):
        (folder / f"{number}.png").hardlink_to(folder / "0.png")
    words = (
        "evaluate",
        good,
        "--net",
        "mnist_cnn",
        "--resize",
        "28x28",
        "--channels",
        "grey",
        "--unlabelled",
    )
    outcome = driver.call(*words, "--data", folder)
    assert outcome.code == 0, outcome.stderr
    assert outcome.memory < MOST_MEMORY
