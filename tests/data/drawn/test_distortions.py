from __future__ import annotations

import pytest
import torch

from detrojan.data.drawn.distortions import blended, painted, shuffled


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def test_shapes_of_one_colour_are_painted_on_a_part_of_each_image(random):
    images = torch.full((60, 3, 30, 20), 0.5)
    made = painted(images, random, most=1)
    changed = (made != 0.5).any(1)
    assert bool(changed.flatten(1).any(1).float().mean() > 0.9)
    assert 0.01 < float(changed.float().mean()) < 0.3
    for image, where in zip(made, changed, strict=True):
        assert all(len(channel[where].unique()) <= 1 for channel in image), "one shape, one colour"
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    assert bool((images == 0.5).all()), "the images given are unchanged"


def test_a_blend_lies_between_its_images(random):
    made = blended(torch.zeros(50, 1, 4, 4), torch.ones(50, 1, 4, 4), random, low=0.2, high=0.4)
    assert 0.2 <= float(made.min()) < 0.25
    assert 0.35 < float(made.max()) <= 0.4
    assert bool((made.flatten(1).std(1) < 1e-6).all()), "one weight per image"


@pytest.mark.parametrize("size", [(16, 16), (10, 7)])
def test_tiles_are_put_in_another_order(random, size):
    images = torch.rand(20, 3, *size, generator=random)
    made = shuffled(images, random)
    assert made.shape == images.shape
    assert not bool((made == images).flatten(1).all(1).any())
    if size == (16, 16):
        before, after = (part.flatten(1).sort(1).values for part in (images, made))
        assert torch.equal(before, after), "each pixel is somewhere"
        assert any(
            torch.equal(made[0, :, :4, :4], images[0, :, y : y + 4, x : x + 4])
            for y in range(0, 16, 4)
            for x in range(0, 16, 4)
        )
