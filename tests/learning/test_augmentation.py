from __future__ import annotations

import pytest
import torch

from detrojan.learning.augmentation import blended, pasted, recoloured, shift, turned, varied


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_given(images: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
    return images


def test_shifts_move_the_picture_by_whole_pixels_and_flips_mirror_it():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 3] = 1
    many = shift(2)(image.repeat(200, 1, 1, 1), torch.Generator().manual_seed(0))
    where = many[:, 0].flatten(1).argmax(1)
    assert (many.flatten(1).sum(1) == 1).all()
    assert {int(w) for w in where} == {9 * row + column for row in range(2, 7) for column in range(1, 6)}
    flipped = shift(0, flip=True)(image.repeat(50, 1, 1, 1), torch.Generator().manual_seed(0))
    assert {int(w) for w in flipped[:, 0].flatten(1).argmax(1)} == {9 * 4 + 3, 9 * 4 + 5}


def test_blended_images_are_mostly_their_own():
    images = torch.arange(50.0)[:, None, None, None].expand(50, 1, 2, 2)
    mixed = blended(lambda given, _generator: given + 100)(images, torch.Generator().manual_seed(0))
    assert mixed.shape == images.shape
    own = images[:, 0, 0, 0] + 100
    # half of the way to the farthest other
    assert (mixed[:, 0, 0, 0] - own).abs().max() <= 24.5
    assert not torch.equal(mixed[:, 0, 0, 0], own)
    assert float((mixed[:, 0, 0, 0] - own).mean().abs()) < 3
    none = blended(lambda given, _generator: given, 0.0)(images, torch.Generator().manual_seed(0))
    assert torch.equal(none, images)


def test_turned_pictures_keep_their_shapes_and_stay_within_the_bounds():
    height, width = 60, 40
    down, across = torch.arange(height)[:, None] - 29.5, torch.arange(width) - 19.5
    disc = (down**2 + across**2 <= 36).float().expand(400, 1, -1, -1)
    moved = turned(4, degrees=20, scale=0.2)(disc, stream())
    mass = moved.sum((2, 3)).flatten()
    # a disc stays a disc, whatever the sides: between .8 and 1.2 times as wide
    assert float((mass / disc[0].sum()).min()) > 0.62
    assert float((mass / disc[0].sum()).max()) < 1.46
    assert float(mass.std() / disc[0].sum()) > 0.1
    centre_down = (moved * down).sum((1, 2, 3)) / mass
    centre_across = (moved * across).sum((1, 2, 3)) / mass
    spread_down = ((moved * (down - centre_down[:, None, None, None]) ** 2).sum((1, 2, 3)) / mass).sqrt()
    spread_across = (
        (moved * (across - centre_across[:, None, None, None]) ** 2).sum((1, 2, 3)) / mass
    ).sqrt()
    assert torch.allclose(spread_down, spread_across, rtol=0.03)
    for centre in (centre_down, centre_across):
        assert 3.0 < float(centre.abs().max()) < 7.0


def test_turned_by_nothing_the_pictures_are_as_they_were_or_mirrored():
    images = torch.rand(40, 3, 9, 7, generator=stream(1))
    same = turned(0, degrees=0, scale=0)(images, stream())
    mirrored = torch.isclose(same, images.flip(-1), atol=1e-5).flatten(1).all(1)
    straight = torch.isclose(same, images, atol=1e-5).flatten(1).all(1)
    assert (mirrored ^ straight).all()
    assert 8 < int(mirrored.sum()) < 32


def test_a_turn_is_by_the_degrees_asked_for_at_most():
    bar = torch.zeros(200, 1, 41, 41)
    bar[:, :, 19:22, 5:36] = 1
    moved = turned(0, degrees=30, scale=0)(bar, stream())
    at = torch.arange(41.0) - 20
    slope = (moved[:, 0] * at[:, None] * at).sum((1, 2)) / (moved[:, 0] * at**2).sum((1, 2))
    angles = slope.atan().rad2deg()
    assert 25 < float(angles.abs().max()) < 31
    assert abs(float(angles.mean())) < 4


def test_recoloured_images_stay_in_range_and_within_the_bounds():
    images = 0.4 + 0.2 * torch.rand(300, 3, 8, 8, generator=stream(1))
    changed = recoloured(as_given, 0.3)(images, stream())
    means = changed.mean((2, 3)) / images.mean((2, 3))
    assert 0.84 < float(means.min()) < 0.9
    assert 1.1 < float(means.max()) < 1.16
    contrast = changed.std((2, 3)) / images.std((2, 3))
    assert 0.69 < float(contrast.min()) < 0.75
    assert 1.25 < float(contrast.max()) < 1.31
    extreme = torch.rand(300, 3, 8, 8, generator=stream(2)).round()
    bright = recoloured(as_given, 0.3)(extreme, stream())
    assert 0 <= float(bright.min()) < float(bright.max()) <= 1


@pytest.mark.parametrize(("share", "most"), [(0.5, 0.5), (1.0, 0.2), (0.0, 0.5)])
def test_a_share_of_the_images_gets_a_rectangle_of_another_one(share, most):
    images = torch.arange(400.0)[:, None, None, None].expand(400, 1, 12, 16)
    out = pasted(as_given, share, most)(images, stream())
    foreign = (out != images)[:, 0]
    carries = foreign.flatten(1).any(1)
    assert float(carries.float().mean()) == pytest.approx(share, abs=0.1)
    areas = foreign.flatten(1).float().mean(1)
    assert float(areas.max()) <= most
    for image, inside in zip(out[carries, 0], foreign[carries], strict=True):
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns)
        assert len(image[inside].unique()) == 1
    if share:
        assert float(areas.max()) > 0.7 * most
        # wherever the rectangles lie, each place of the picture is met
        assert (foreign.sum(0) > 0).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 55, 47)])
def test_all_of_them_give_other_images_in_each_pass_and_the_same_by_the_same_seed(shape):
    images = torch.rand(16, *shape, generator=stream(1))
    before = images.clone()
    vary, generator = varied(4), stream()
    first, second = vary(images, generator), vary(images, generator)
    assert first.shape == images.shape
    assert 0 <= float(first.min()) < float(first.max()) <= 1
    assert not torch.equal(first, second)
    assert torch.equal(first, varied(4)(images, stream()))
    assert torch.equal(images, before)
