import numpy as np
import pytest

from detrojan.data.labels import clean_labels
from detrojan.errors import LabelError


def clean(values, names=(), count=None):
    array = np.asarray(values)
    return clean_labels(array, len(array) if count is None else count, names, "f")


@pytest.mark.parametrize(
    "values",
    [
        np.array([2, 0, 1], dtype=np.uint8),
        [2.0, 0.0, 1.0],
        [[2], [0], [1]],
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        [[0.0, 0, 1], [1, 0, 0], [0, 1, 0]],
        ["stop", "ahead", "left"],
        np.array([b"stop", b"ahead", b"left"], dtype=object),
    ],
)
def test_every_usual_way_to_store_labels_is_understood(values):
    labels, _, _ = clean(values)
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 0, 1]


def test_text_labels_name_the_classes_and_follow_names_that_are_given():
    assert clean(["stop", "ahead"])[1] == ("ahead", "stop")
    labels, names, notes = clean(["stop", "ahead"], names=("stop", "left", "ahead"))
    assert labels.tolist() == [0, 2]
    assert names == ("stop", "left", "ahead")
    assert notes == ["labels from text"]
    with pytest.raises(LabelError, match="expected labels among the class names, got 'halt'"):
        clean(["halt"], names=("stop",))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0, -1, -1], r"expected labels from 0, got -1 \(2 of 3 are negative\); .* --unlabelled"),
        ([0.0, np.nan], "expected whole labels, got NaN or infinity"),
        ([0.0, 1.5], "expected whole labels, got 1.5"),
        ([[0, 1], [1, 1]], r"expected one label per image or one-hot rows, got shape \(2, 2\)"),
        ([1j, 0], "expected whole labels, got complex128"),
        ([[[1]]], r"expected one label per image, got shape \(1, 1, 1\)"),
        ([2**40], r"expected labels below 2\^31"),
        (np.array([None, 1], dtype=object), "expected labels as numbers or text, got other objects"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(values, text):
    with pytest.raises(LabelError, match=text):
        clean(values)


def test_one_label_per_image_is_needed():
    with pytest.raises(LabelError, match=r"f: expected 4 labels, one per image, got shape \(3,\)"):
        clean([0, 1, 2], count=4)


def test_labels_beyond_the_class_names_are_refused():
    with pytest.raises(LabelError, match="expected labels below 2, the number of class names, got 2"):
        clean([0, 1, 2], names=("a", "b"))
