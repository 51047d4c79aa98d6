from __future__ import annotations

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.data.surrogate import surrogate
from detrojan.errors import DataError


def pictures(*shape: int) -> Dataset:
    images = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    return Dataset(images, torch.arange(6), source="cats.npz", notes=("uint8 / 255",))


def test_images_that_fit_are_returned_as_they_are():
    data = pictures(3, 8, 8)
    assert surrogate(data, (3, 8, 8)) is data


def test_colour_becomes_grey_by_its_brightness():
    red = Dataset(torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(2, 3, 8, 8).clone())
    made = surrogate(red, (1, 8, 8))
    assert made.images.unique().tolist() == pytest.approx([0.299])
    assert made.notes == ("colour made grey",)


def test_the_size_changes_and_labels_stay():
    data = pictures(3, 10, 8)
    made = surrogate(data, (3, 55, 47))
    assert made.images.shape == (6, 3, 55, 47)
    assert made.notes == ("uint8 / 255", "resized from 10x8 to 55x47, bilinear")
    assert float(made.images.mean()) == pytest.approx(float(data.images.mean()), abs=0.02)
    assert torch.equal(made.labels, data.labels)


def test_grey_images_for_colours_are_refused():
    with pytest.raises(
        DataError, match=r"cats.npz: expected images of 3 channels \(colour\), got 1 \(grey\)"
    ):
        surrogate(pictures(1, 8, 8), (3, 8, 8))


def test_quite_other_proportions_are_refused():
    with pytest.raises(DataError, match=r"cats.npz: expected images whose proportions .* got 8 x 20 x 3"):
        surrogate(pictures(3, 8, 20), (3, 8, 8))
