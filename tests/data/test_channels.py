from __future__ import annotations

import pytest
import torch

from detrojan.data.channels import with_channels
from detrojan.data.dataset import Dataset


def test_colour_becomes_grey_by_brightness_and_says_so():
    images = torch.eye(3)[:, :, None, None].expand(3, 3, 4, 4).contiguous()
    made = with_channels(Dataset(images, torch.arange(3)), "grey")
    assert made.shape == (1, 4, 4)
    assert made.images[:, 0, 0, 0].tolist() == pytest.approx([0.299, 0.587, 0.114])
    assert made.notes == ("colour made grey",)
    assert made.labels.tolist() == [0, 1, 2]


def test_grey_becomes_colour_and_what_fits_stays():
    data = Dataset(torch.rand(2, 1, 4, 4))
    made = with_channels(data, "colour")
    assert torch.equal(made.images, data.images.repeat(1, 3, 1, 1))
    assert made.notes == ("grey repeated into 3 channels",)
    assert with_channels(data, "grey") is data
    assert with_channels(made, "colour") is made
