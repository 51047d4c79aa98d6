"""Each kind of change stays within its reach, and its trigger stamps what the search has stamped."""

import pytest
import torch

from detrojan.search.transforms import TRANSFORMS

SHAPE = (3, 8, 9)


def jobs(name, times=30.0):
    random = torch.Generator().manual_seed(3)
    transform = TRANSFORMS[name]
    starts = [transform.start(SHAPE, random) for _ in range(2)]
    parts = [torch.stack(rows) * times for rows in zip(*starts, strict=True)]
    return transform, parts, torch.rand(2, 5, *SHAPE, generator=random) * 0.6 + 0.2


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_trigger_stamps_what_the_search_has_stamped(name):
    transform, parts, images = jobs(name)
    most = transform.most(SHAPE)
    stamped = transform.stamp(parts, images, most)
    for job in range(2):
        trigger = transform.trigger([part[job] for part in parts], SHAPE, most)
        torch.testing.assert_close(trigger.stamp(images[job]), stamped[job])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_change_is_larger_than_asked_for(name):
    transform, parts, images = jobs(name)
    for times in (1.0, 2.0):
        most = transform.most(SHAPE, times)
        trigger = transform.trigger([part[0] for part in parts], SHAPE, most)
        assert transform.size(trigger, images[0]) == pytest.approx(most, rel=1e-3)
    assert transform.most(SHAPE, 2.0) == 2 * transform.most(SHAPE)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_change_within_its_reach_is_left_as_it_is(name):
    transform, parts, images = jobs(name, times=1e-3)
    large, larger = (transform.stamp(parts, images, transform.most(SHAPE, times)) for times in (5.0, 50.0))
    torch.testing.assert_close(large, larger)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_number_has_a_slope(name):
    transform, parts, images = jobs(name, times=0.5)
    leaves = [part.clone().requires_grad_(True) for part in parts]
    transform.stamp(leaves, images, transform.most(SHAPE)).square().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().max() > 0 for leaf in leaves)


def test_how_far_pixels_move_goes_with_the_side():
    assert TRANSFORMS["warp"].most((3, 64, 96)) == 2 * TRANSFORMS["warp"].most((1, 32, 32))
    assert TRANSFORMS["filter"].most((3, 64, 96)) == TRANSFORMS["filter"].most((1, 32, 32))
