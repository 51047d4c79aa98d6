"""A filter bank draws of each image, no further than its strength, and survives its file."""

import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.filtered import FilterTrigger, filtered

SHAPE = (3, 6, 7)


def parts(kinds=4, channels=3, side=3, scale=1.0):
    random = torch.Generator().manual_seed(2)
    shapes = [(kinds, channels, side, side), (kinds,), (channels, kinds, side, side), (channels,)]
    return [torch.randn(shape, generator=random) * scale for shape in shapes]


def images(count=5):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25


def test_each_image_is_changed_by_its_strength_and_differently():
    trigger, clean = FilterTrigger(SHAPE, parts(), 0.02), images()
    change = trigger.stamp(clean) - clean
    torch.testing.assert_close(change.square().mean((1, 2, 3)).sqrt(), torch.full((5,), 0.02))
    assert (change[0] - change[1]).abs().max() > 0.005


def test_a_faint_drawing_is_not_made_stronger():
    look, bias, draw, shift = parts()
    trigger = FilterTrigger(SHAPE, [look, bias, draw * 0, shift * 0 + 0.01], 0.5)
    torch.testing.assert_close(trigger.stamp(images()), images() + 0.01)


def test_banks_work_side_by_side_as_each_alone():
    one, other = parts(), parts(scale=0.3)
    both = [torch.stack(pair) for pair in zip(one, other, strict=True)]
    pair = torch.stack([images(), images().flip(0)])
    found = filtered(pair, both, 0.05)
    torch.testing.assert_close(found[0], FilterTrigger(SHAPE, one, 0.05).stamp(images()))
    torch.testing.assert_close(found[1], FilterTrigger(SHAPE, other, 0.05).stamp(images().flip(0)))


def test_it_survives_the_file_and_has_a_picture(tmp_path):
    trigger = FilterTrigger(SHAPE, parts(), 0.02)
    trigger.save(tmp_path / "t.safetensors")
    again = Trigger.load(tmp_path / "t.safetensors")
    assert torch.equal(again.stamp(images()), trigger.stamp(images()))
    picture = trigger.picture()
    assert picture.shape == SHAPE
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: FilterTrigger(SHAPE, parts(side=2), 0.1), "bank of filters"),
        (lambda: FilterTrigger(SHAPE, parts(channels=1), 0.1), "bank of filters"),
        (lambda: FilterTrigger(SHAPE, parts()[:3], 0.1), "bank of filters"),
        (lambda: FilterTrigger(SHAPE, parts(), 1.5), "strength"),
        (lambda: FilterTrigger(SHAPE, [part * torch.nan for part in parts()], 0.1), "finite"),
        (lambda: FilterTrigger(SHAPE, parts(), 0.1).stamp(torch.zeros(1, 3, 5, 5)), "shape"),
    ],
)
def test_what_cannot_be_is_refused(made, told):
    with pytest.raises(DataError, match=told):
        made()
