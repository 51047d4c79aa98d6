"""MATLAB's files: which axis counts the images, and what labels from 1 mean."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io

from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError

RANDOM = np.random.default_rng(3)
PIXELS = RANDOM.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
DIGITS = np.arange(40) % 10 + 1


def newer(path, **variables):
    """Write a file of version 7.3: HDF5 behind 512 bytes, with the axes in the opposite order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            file[name] = np.asarray(values).T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def older(path, **variables):
    scipy.io.savemat(path, variables, do_compression=True)
    return path


WRITERS = pytest.mark.parametrize("write", [older, newer])


@WRITERS
def test_svhn_s_files_are_turned_and_ten_is_the_digit_nought(tmp_path, write):
    path = write(
        tmp_path / "test_32x32.mat", X=PIXELS.transpose(1, 2, 3, 0), y=DIGITS[:, None].astype(np.uint8)
    )
    data = read_data(path)
    assert np.allclose(data.images.permute(0, 2, 3, 1) * 255, PIXELS)
    assert data.labels.tolist() == (DIGITS % 10).tolist()
    assert "X (32, 32, 3, 40) was read as height, width, channels, images" in data.notes
    assert "labels of 1 to 10: 10 was read as the digit 0, as in SVHN" in data.notes
    few = read_data(path, limit=7)
    assert np.allclose(few.images.permute(0, 2, 3, 1) * 255, PIXELS[few.positions])
    assert splits_of(path) == ("",)


@WRITERS
def test_other_labels_from_one_are_lowered_with_a_warning(tmp_path, write):
    path = write(tmp_path / "signs.mat", images=PIXELS.transpose(1, 2, 3, 0), labels=DIGITS[None])
    data = read_data(path)
    assert data.labels.tolist() == (DIGITS - 1).tolist()
    assert data.warnings == ("labels of 1 to 10 were lowered by 1, as MATLAB counts from 1",)
    from_zero = read_data(
        write(tmp_path / "zero.mat", images=PIXELS.transpose(1, 2, 3, 0), labels=DIGITS[None] - 1)
    )
    assert from_zero.labels.tolist() == (DIGITS - 1).tolist()
    assert not from_zero.warnings


@WRITERS
def test_images_first_as_python_writes_them_stay(tmp_path, write):
    grey = PIXELS[..., 0]
    data = read_data(write(tmp_path / "d.mat", x_train=PIXELS, x_test=grey, y_test=DIGITS % 10))
    assert np.allclose(data.images[:, 0] * 255, grey)
    train = read_data(tmp_path / "d.mat", split="train")
    assert np.allclose(train.images.permute(0, 2, 3, 1) * 255, PIXELS)


def test_grey_images_are_turned_where_their_labels_or_sides_say_so(tmp_path):
    grey = PIXELS[..., 0]
    for variables in ({"data": grey.transpose(1, 2, 0)}, {"data": grey.transpose(1, 2, 0), "labels": DIGITS}):
        assert np.allclose(read_data(older(tmp_path / "g.mat", **variables)).images[:, 0] * 255, grey)
    square = older(tmp_path / "s.mat", data=grey[:32].transpose(1, 2, 0))
    assert read_data(square).shape == (1, 32, 32)


def test_cifar_s_rows_become_planes(tmp_path):
    rows = PIXELS.transpose(0, 3, 1, 2).reshape(40, 3072)
    data = read_data(
        older(tmp_path / "data_batch_1.mat", data=rows, labels=DIGITS[:, None] - 1, batch_label="x")
    )
    assert np.allclose(data.images.permute(0, 2, 3, 1) * 255, PIXELS)
    assert any("rows of 3 planes of 32x32" in note for note in data.notes)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"weights": np.zeros((3, 3))},
            r"expected images under one of images, .*, got arrays weights \(3, 3\)",
        ),
        ({"images": {"data": np.zeros((4, 4))}}, r"images.*\(1, 1\)"),
        ({"images": np.array([[1, "a"]] * 3, dtype=object)[:, None]}, "images"),
    ],
)
def test_what_holds_no_images_says_what_it_holds(tmp_path, variables, says):
    with pytest.raises(DataError, match=says):
        read_data(older(tmp_path / "x.mat", **variables))


def test_damage_is_an_error_of_ours(tmp_path):
    content = older(tmp_path / "x.mat", X=PIXELS.transpose(1, 2, 3, 0)).read_bytes()
    for length in (20, 130, 200, len(content) // 2, len(content) - 4):
        (tmp_path / "cut.mat").write_bytes(content[:length])
        with pytest.raises(DataError):
            read_data(tmp_path / "cut.mat")
