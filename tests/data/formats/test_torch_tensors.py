"""Data that torch.save wrote: a dict, a pair, PyTorch's data set of tensors; never unpickled."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError, UnsafeFileError

IMAGES = torch.randint(0, 256, (12, 3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(12) % 4
WAYS = {
    "dict": {"images": IMAGES, "labels": LABELS},
    "list of labels": {"data": IMAGES, "targets": LABELS.tolist()},
    "pair": (IMAGES, LABELS),
    "list": [IMAGES, LABELS],
    "floats": {"x": IMAGES / 255, "y": LABELS.int()},
    "channels last": {"x": IMAGES.permute(0, 2, 3, 1), "y": LABELS},
    "data set": TensorDataset(IMAGES / 255, LABELS),
    "part": {"x": torch.cat([IMAGES, IMAGES])[:12], "y": LABELS, "epoch": 3, "note": "made up"},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("held", WAYS.values(), ids=WAYS)
def test_images_and_labels_are_found(tmp_path, held, legacy):
    torch.save(held, tmp_path / "d.pt", _use_new_zipfile_serialization=not legacy)
    data = read_data(tmp_path / "d.pt")
    assert torch.allclose(data.images, IMAGES / 255)
    assert data.labels.tolist() == LABELS.tolist()
    assert len(read_data(tmp_path / "d.pt", limit=5)) == 5


def test_splits_are_told_by_names(tmp_path):
    held = {"train": {"images": IMAGES, "labels": LABELS}, "x_test": IMAGES[:2, 0], "y_test": LABELS[:2]}
    torch.save(held, tmp_path / "d.pth")
    assert sorted(splits_of(tmp_path / "d.pth")) == ["test", "train"]
    assert len(read_data(tmp_path / "d.pth", split="train")) == 12
    assert read_data(tmp_path / "d.pth").shape == (1, 9, 8)


def test_a_tensor_alone_is_images(tmp_path):
    torch.save(IMAGES, tmp_path / "d.pt")
    data = read_data(tmp_path / "d.pt")
    assert (len(data), data.labels) == (12, None)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (
            {"conv.weight": torch.zeros(3, 3)},
            r"expected images under one of .*, got arrays conv.weight \(3, 3\)",
        ),
        (
            [(IMAGES[0], 3)],
            "expected a dict or a pair of tensors .*, got a list of something else; torch.save",
        ),
        ("words", "expected a dict or a pair of tensors"),
        ({"images": IMAGES.float().to_sparse()}, "expected dense real numbers in 'images'"),
        ({"images": np.zeros(3)}, "expected images under one of"),
    ],
)
def test_what_holds_no_images_says_what_it_holds(tmp_path, held, says):
    torch.save(held, tmp_path / "d.pt")
    with pytest.raises(DataError, match=says):
        read_data(tmp_path / "d.pt")


class Bomb:
    def __init__(self, flag):
        self.flag = str(flag)

    def __reduce__(self):
        return os.mkdir, (self.flag,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused_and_does_not_run(tmp_path, legacy):
    held = {"images": IMAGES, "extra": Bomb(tmp_path / "ran")}
    torch.save(held, tmp_path / "d.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        UnsafeFileError, match=r"would run code when read \(it calls posix.mkdir\); nothing was run"
    ):
        read_data(tmp_path / "d.pt")
    assert not (tmp_path / "ran").exists()


def test_damage_is_an_error_of_ours(tmp_path):
    torch.save(WAYS["dict"], tmp_path / "d.pt")
    content = (tmp_path / "d.pt").read_bytes()
    for length in (100, 400, len(content) // 2, len(content) - 30):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        with pytest.raises(DataError):
            read_data(tmp_path / "cut.pt")
