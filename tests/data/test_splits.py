"""Training data are the training split, and never another one in silence."""

import numpy as np
import pytest
from PIL import Image

from detrojan.data.reading import splits_of
from detrojan.data.splits import training_splits
from detrojan.errors import DataError

IMAGES = np.arange(4 * 6 * 6, dtype=np.uint8).reshape(4, 6, 6)


def _saved(folder, *names):
    np.savez(folder / "data.npz", **dict.fromkeys(names, IMAGES))
    return folder / "data.npz"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("x_train", "x_test", "x_val"), ("train", "test")),
        (("x_train", "x_val"), ("train", None)),
        (("x_train", "x"), ("train", None)),
        (("images",), (None, None)),
        (("images", "x_test"), (None, "test")),
    ],
)
def test_the_training_split_is_trained_on_and_the_test_split_held_out(tmp_path, names, chosen):
    assert training_splits(_saved(tmp_path, *names)) == chosen


def test_a_stated_split_is_taken_and_nothing_held_out(tmp_path):
    assert training_splits(_saved(tmp_path, "x_train", "x_test"), "TEST") == ("test", None)
    with pytest.raises(DataError, match="expected a split train, test or val, got 'all'"):
        training_splits(tmp_path / "data.npz", "all")


def test_a_test_split_alone_is_not_trained_on_unasked(tmp_path):
    path = _saved(tmp_path, "x_test", "x_val")
    with pytest.raises(
        DataError,
        match=r"data\.npz: expected a split train, got only test and val; --split test trains on it",
    ):
        training_splits(path)


def test_the_signs_have_the_splits_that_their_word_leaves_open(tmp_path, monkeypatch):
    (tmp_path / "signs").mkdir()  # a word goes before a folder of that name
    monkeypatch.chdir(tmp_path)
    assert training_splits("signs") == ("train", "test")
    assert training_splits("signs:train") == ("train", None)
    with pytest.raises(DataError, match="expected a split train, got only test"):
        training_splits("signs:test")


def test_pictures_have_splits_where_their_folders_are_called_so(tmp_path):
    for split in ("train", "Validation"):
        (tmp_path / split).mkdir()
        Image.fromarray(IMAGES[0]).save(tmp_path / split / "a.png")
    assert sorted(splits_of(tmp_path)) == ["train", "val"]
    assert splits_of(tmp_path / "train") == splits_of(tmp_path / "train" / "a.png") == ("",)
    assert splits_of([tmp_path / "train" / "a.png"]) == ("",)


def test_splits_of_what_is_not_there_or_damaged(tmp_path):
    with pytest.raises(DataError, match=r"there is no file or folder .*none; expected an \.npz file"):
        splits_of(tmp_path / "none")
    path = _saved(tmp_path, "x_train")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="the file is truncated or damaged"):
        splits_of(path)
    with pytest.raises(DataError, match="expected images under one of"):
        splits_of(_saved(tmp_path, "weights"))
