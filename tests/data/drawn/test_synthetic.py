from __future__ import annotations

import pytest
import torch

from detrojan.data.drawn.synthetic import gradients, noise, smooth_noise, synthetic
from detrojan.errors import OptionError


@pytest.mark.parametrize("shape", [(3, 55, 47), (1, 28, 28), (3, 9, 16)])
def test_images_of_any_shape_are_made_up(shape):
    data = synthetic(41, shape, seed=3)
    assert data.images.shape == (41, *shape)
    assert data.labels is None
    assert data.source == "none"
    assert data.images.flatten(1).std(1).min() > 0.01, "no image is of one colour"
    assert len({tuple(image.flatten().tolist()) for image in data.images}) == 41


def test_the_seed_decides():
    one, same, other = (synthetic(20, (3, 16, 16), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.images, same.images)
    assert one.sha256 == same.sha256 != other.sha256
    assert one.notes[0] == "20 images made up of noise, gradients and shapes, seed 1"


def step(images) -> float:
    """Mean difference of neighbours, over the standard deviation."""
    return float(images.diff(dim=3).abs().mean() / images.std())


def test_clouds_are_smooth_and_noise_is_not():
    random = torch.Generator().manual_seed(0)
    shape = (3, 32, 32)
    assert step(smooth_noise(50, shape, random)) < 0.5
    assert step(noise(50, shape, random)) > 1


def test_a_gradient_runs_in_one_direction():
    images = gradients(30, (3, 24, 24), torch.Generator().manual_seed(0))
    for change in (images.diff(dim=2), images.diff(dim=3)):
        falls, rises = (change < -1e-6).flatten(2).any(2), (change > 1e-6).flatten(2).any(2)
        assert not bool((falls & rises).any())


def test_a_count_below_1_is_refused():
    with pytest.raises(OptionError, match="expected at least 1 image to be made up, got 0"):
        synthetic(0, (3, 8, 8))
