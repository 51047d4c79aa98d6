"""Arrays that lie in an `.npy` file each."""

import numpy as np
import pytest

from detrojan.data.reading import data_digest, read_data, splits_of
from detrojan.errors import DataError, RangeError, UnsafeFileError

IMAGES = np.arange(4 * 3 * 5 * 6, dtype=np.uint8).reshape(4, 3, 5, 6)
LABELS = np.array([0, 1, 1, 0])


@pytest.mark.parametrize(
    "stored",
    [IMAGES, IMAGES.transpose(0, 2, 3, 1), np.asfortranarray(IMAGES), np.float32(IMAGES / 255)],
    ids=["channels first", "channels last", "by columns", "floats"],
)
def test_one_array_of_images(stored, tmp_path):
    np.save(tmp_path / "photos.npy", stored)
    data = read_data(tmp_path / "photos.npy")
    assert data.labels is None
    assert np.allclose(data.images.numpy() * 255, IMAGES, atol=1e-3)
    few = read_data(tmp_path / "photos.npy", limit=1)
    assert np.allclose(few.images.numpy() * 255, IMAGES[few.positions], atol=1e-3)


def test_labels_lie_beside_or_in_the_same_folder(tmp_path):
    for name, array in {
        "x_test": IMAGES,
        "y_test": LABELS,
        "x_train": IMAGES[:2],
        "y_train": LABELS[:2],
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert read_data(tmp_path / "x_train.npy").labels.tolist() == [0, 1]
    assert read_data(tmp_path / "x_train.npy", unlabelled=True).labels is None
    assert sorted(splits_of(tmp_path)) == ["test", "train"]
    assert read_data(tmp_path).labels.tolist() == LABELS.tolist()
    before = data_digest(tmp_path / "x_test.npy")
    np.save(tmp_path / "y_test.npy", 1 - LABELS)
    assert data_digest(tmp_path / "x_test.npy") != before


def test_floats_of_another_range_are_to_be_stated(tmp_path):
    np.save(tmp_path / "x.npy", np.float32(IMAGES))
    with pytest.raises(RangeError, match=r"state the range with --data-range 0-255"):
        read_data(tmp_path / "x.npy")


def test_pickles_and_damage(tmp_path):
    np.save(tmp_path / "x.npy", np.array([1, None]), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="holds Python objects"):
        read_data(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", IMAGES)
    whole = (tmp_path / "y.npy").read_bytes()
    (tmp_path / "z.npy").write_bytes(whole[:-50])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_data(tmp_path / "z.npy")
