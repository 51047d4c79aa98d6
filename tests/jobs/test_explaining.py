from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from detrojan.attacks.badnets import BadNets
from detrojan.guards.region import Region
from detrojan.guards.strip import Strip
from detrojan.jobs.demo import sticker
from detrojan.jobs.explaining import SIDE, drawn, explain
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from twins import SHAPE, TARGET, few_signs, trained


def test_the_sticker_of_the_demonstration_is_marked(twins):
    trigger = sticker(SHAPE)
    attack = BadNets(poison_rate=0.2, backdoors=(Backdoor(trigger=trigger, target=TARGET),))
    model = trained(attack.poison(twins.train, run=Run(seed=0)).data, 0)
    guard = Strip(copies=40).calibrate(model, few_signs(120, 11), run=Run())
    chosen = (twins.test.labels != TARGET).nonzero().flatten()[:40]
    stamped = trigger.stamp(twins.test.images[chosen])
    won = (model.answers(stamped) == TARGET).nonzero().flatten()[:6]
    assert len(won) == 6
    marked = right = 0
    for place in won.tolist():
        region = explain(guard, stamped[place])
        if region is not None:
            row, column = region.top + (region.height - 1) / 2, region.left + (region.width - 1) / 2
            # the middle of the region lies on the sticker, which covers the rows and columns 18 to 21
            marked += 17 <= row <= 22 and 17 <= column <= 22
            right += region.without == twins.test.labels[chosen][place]
            assert region.height * region.width <= 100
    assert marked >= 5
    assert right >= 4


@pytest.mark.parametrize("channels", [1, 3])
def test_the_region_is_framed_beside_the_input(channels):
    region = Region(top=4, left=6, height=3, width=5, label=0, without=1, removed=1.0, carried=None)
    with Image.open(io.BytesIO(drawn(torch.full((channels, 16, 16), 0.5), region))) as picture:
        assert picture.width > 2 * SIDE
        left, right = (picture.crop((start, 0, start + SIDE, SIDE)) for start in (0, picture.width - SIDE))
        assert len(left.convert("RGB").getcolors()) == 1
        colours = {colour: count for count, colour in right.convert("RGB").getcolors()}
        assert colours[255, 0, 0] > 4 * SIDE // 16
        assert right.getpixel((int(8.5 * SIDE / 16), int(5.5 * SIDE / 16))) == left.getpixel((0, 0))


def test_an_input_without_a_region_is_shown_alone():
    with Image.open(io.BytesIO(drawn(torch.zeros(3, 16, 16), None))) as picture:
        assert picture.width == SIDE
