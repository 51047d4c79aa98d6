import numpy as np
import pytest

from detrojan.data.source import by_split, channel_axis, channels_last, check_bytes, choose_split, is_extra
from detrojan.errors import DataError


def test_names_are_sorted_by_split_wherever_the_split_stands():
    groups = by_split(["x_train", "Test_X", "val/images", "validation-labels", "y", "offsets_test"])
    assert groups == {
        "train": {"x": "x_train"},
        "test": {"x": "Test_X", "offsets": "offsets_test"},
        "val": {"images": "val/images", "labels": "validation-labels"},
        "": {"y": "y"},
    }


def test_the_split_is_chosen_and_the_choice_is_told():
    assert choose_split(["train", "test"], None, "f") == (
        "test",
        ["split test was taken; the file also has train"],
    )
    assert choose_split(["train"], None, "f") == ("train", ["split train, the only one"])
    assert choose_split([""], None, "f") == ("", [])
    assert choose_split(["train", "val"], "validation", "f") == ("val", ["split val"])
    with pytest.raises(DataError, match="f: expected a split test, got only train, val"):
        choose_split(["train", "val"], "test", "f")
    with pytest.raises(DataError, match="expected a split train, test or val, got 'holdout'"):
        choose_split(["train"], "holdout", "f")


@pytest.mark.parametrize(
    ("shape", "axis"), [((9, 3, 55, 47), 1), ((9, 55, 47, 3), 3), ((9, 1, 28, 28), 1), ((9, 28, 28), None)]
)
def test_channels_are_found_by_their_number(shape, axis):
    assert channel_axis(shape, "f") == axis
    assert channels_last(np.zeros(shape), "f").shape[1:] in {(55, 47, 3), (28, 28, 1)}


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((9, 3, 8, 3), "got both in shape"),
        ((9, 8, 8, 4), r"expected 1 or 3 channels, got shape \(9, 8, 8, 4\)"),
        ((32, 32, 3), r"expected images \(N, H, W\) or \(N, H, W, C\), got one of shape \(32, 32, 3\)"),
        ((9, 784), r"got shape \(9, 784\)"),
    ],
)
def test_a_shape_that_is_not_clear_is_refused(shape, text):
    with pytest.raises(DataError, match=text):
        channel_axis(shape, "f")


def test_absurd_sizes_are_refused_before_they_are_read():
    assert check_bytes((10, 10), 8, "f") == 800
    with pytest.raises(DataError, match="expected at most 8 GiB, got an array that claims 1e\\+06 GiB"):
        check_bytes((10**6, 2**20), 2**10, "f")


def test_only_a_few_numbers_per_sample_travel_along():
    assert is_extra((5, 6), np.dtype("int16"), 5)
    assert not is_extra((5,), np.dtype("<U3"), 5)
    assert not is_extra((4,), np.dtype("int16"), 5)
    assert not is_extra((5, 28, 28), np.dtype("uint8"), 5)
    assert not is_extra((), np.dtype("int64"), 5)
