"""What a tree of pictures means: splits, classes, or neither."""

from pathlib import PurePosixPath

import pytest

from detrojan.data.layout import arrange, class_order, splits_in
from detrojan.errors import DataError


def tree(*texts):
    return [PurePosixPath(text) for text in texts]


def test_numbers_are_in_the_order_of_their_values():
    names = [str(number) for number in range(43)]
    assert class_order(sorted(names)) == names
    padded = [f"{number:05}" for number in range(43)]
    assert class_order(padded[::-1]) == padded
    assert class_order(["b10", "b2", "a"]) == ["a", "b10", "b2"]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("Training", "Testing"),
        ("train", "valid"),
        ("TRAIN", "val"),
        ("trainset", "testset"),
        ("train-images", "dev"),
        ("train_data", "validation"),
    ],
)
def test_common_spellings_of_splits(train, test):
    paths = tree(f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/cat/3.png")
    held = "test" if "test" in test.lower() else "val"
    assert sorted(splits_in(paths, "d")) == sorted(["train", held])
    found = arrange(paths, "d", split="train")
    assert (found.chosen, found.labels, found.names) == ([0, 1], [0, 1], ("cat", "dog"))
    assert arrange(paths, "d", split=held).chosen == [2]


def test_splits_beside_other_folders_are_refused():
    paths = tree("train/1.png", "test/2.png", "extra/3.png")
    with pytest.raises(DataError, match="got test and train beside extra; name one of them with --data"):
        arrange(paths, "d")


def test_a_class_that_is_named_like_a_split_is_warned_of():
    found = arrange(tree("train/1.png", "car/2.png", "plane/3.png"), "d")
    assert found.names == ("car", "plane", "train")
    assert any("'train' was taken for a class, although splits are named so" in note for note in found.notes)


def test_a_split_by_itself_is_no_class():
    assert splits_in(tree("test/a/1.png", "test/b/2.png"), "d") == ("test",)


def test_folders_around_everything_are_passed_through():
    paths = tree("set/images/cat/1.png", "set/images/dog/2.png")
    found = arrange(paths, "d")
    assert (found.labels, found.names) == ([0, 1], ("cat", "dog"))
    twice = tree("train/train/cat/1.png", "train/train/dog/2.png", "test/test/cat/3.png")
    assert arrange(twice, "d", split="train").names == ("cat", "dog")


def test_folders_within_a_class_belong_to_it():
    found = arrange(tree("cat/x/1.png", "cat/2.png", "dog/3.png"), "d")
    assert sorted(zip(found.chosen, found.labels, strict=True)) == [(0, 0), (1, 0), (2, 1)]


def test_empty_folders_are_said_and_one_class_too():
    found = arrange(tree("cat/1.png"), "d", empty=tree("dog"))
    assert found.names == ("cat", "dog")
    assert "warning: 1 class folders have no pictures (dog)" in found.notes
    alone = arrange(tree("cat/1.png"), "d")
    assert any("one folder, 'cat', which was taken for their class" in note for note in alone.notes)


def test_pictures_without_folders_have_no_labels():
    assert arrange(tree("1.png", "2.png"), "d").labels is None
    with pytest.raises(DataError, match="got 1 pictures beside 1 folders"):
        arrange(tree("1.png", "a/2.png"), "d")
    with pytest.raises(DataError, match="expected a folder train, got none"):
        arrange(tree("1.png"), "d", split="train")
