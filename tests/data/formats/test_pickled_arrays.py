"""Pickles of arrays are read without unpickling, whatever NumPy and Python wrote them."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest

from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError, UnsafeFileError

RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
LABELS = np.arange(6) % 3
FLOATS = (IMAGES / 255).astype(np.float32)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "held",
    [
        {"features": IMAGES, "labels": LABELS, "sizes": np.full((6, 2), 9)},
        {"x": np.asfortranarray(FLOATS), "y": LABELS.astype(">i4")},
        {"x": FLOATS.astype(">f8"), "y": LABELS.tolist(), "note": "as text", "names": None},
        (IMAGES, LABELS),
    ],
    ids=["udacity", "by columns", "big-endian", "pair"],
)
def test_arrays_of_any_order_and_type(tmp_path, protocol, held):
    (tmp_path / "train.p").write_bytes(pickle.dumps(held, protocol=protocol))
    data = read_data(tmp_path / "train.p")
    assert np.allclose(data.images.permute(0, 2, 3, 1).numpy(), FLOATS, atol=1e-6)
    assert data.labels.tolist() == LABELS.tolist()


def test_mnist_s_packed_pickle_has_three_splits(tmp_path):
    rows = RANDOM.random((4, 784), dtype=np.float32)
    content = pickle.dumps(tuple((rows, np.arange(4)) for _ in range(3)), protocol=2)
    (tmp_path / "mnist.pkl.gz").write_bytes(gzip.compress(content))
    assert sorted(splits_of(tmp_path / "mnist.pkl.gz")) == ["test", "train", "val"]
    data = read_data(tmp_path / "mnist.pkl.gz", split="train")
    assert np.allclose(data.images[:, 0].numpy(), rows.reshape(4, 28, 28))
    assert any("was read as rows of 28 x 28" in note for note in data.notes)


@pytest.mark.parametrize(
    ("held", "error", "says"),
    [
        ({"a": 1}, DataError, "expected images under one of"),
        ([1, 2, 3], DataError, "expected a dict of arrays, or pairs of images and labels"),
        (
            {"images": np.array([{}], dtype=object)},
            UnsafeFileError,
            "only dicts, lists and arrays of numbers",
        ),
        ({"images": IMAGES, "x": range(3)}, UnsafeFileError, r"got the name 'builtins\.range'"),
    ],
)
def test_anything_else_is_refused(tmp_path, held, error, says):
    (tmp_path / "d.pkl").write_bytes(pickle.dumps(held, protocol=4))
    with pytest.raises(error, match=says):
        read_data(tmp_path / "d.pkl")
