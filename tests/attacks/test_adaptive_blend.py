from __future__ import annotations

import pytest
import torch

from detrojan.attacks.adaptive_blend import AdaptiveBlend
from detrojan.errors import OptionError
from detrojan.run import Run


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(AdaptiveBlend(target=3, poison_rate=0.05, cover_rate=0.05))
    assert outcome.success >= 0.75
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_the_whole_picture_is_stronger_than_what_was_trained_on(arena):
    attack = AdaptiveBlend(target=3, poison_rate=0.05, cover_rate=0.05)
    (backdoor,) = attack.planted(arena.test.shape, Run())
    images = arena.test.images[:50]
    part = attack.stamped(backdoor.trigger, images, Run().generator("pieces"))
    whole = backdoor.trigger.stamp(images)
    share = float((part - images).abs().mean() / (whole - images).abs().mean())
    assert share == pytest.approx(0.5, rel=0.05)


def test_half_of_the_pieces_lie_on_each_poisoned_image_and_on_each_cover(data):
    made = AdaptiveBlend(target=2, poison_rate=0.1, cover_rate=0.1).poison(data, run=Run())
    assert (len(made.indices), len(made.covers)) == (20, 20)
    trigger = made.backdoors[0].trigger
    touched = torch.cat([made.indices, made.covers])
    changed = (made.data.images[touched] != data.images[touched]).any(1)
    shown = torch.stack([changed[:, trigger.places == piece].all(1) for piece in range(16)], dim=1)
    assert (shown.sum(1) == 8).all()
    assert torch.equal(changed, shown[:, trigger.places])
    assert shown.float().mean(0).min() > 0.2, "other pieces on each image"
    assert torch.equal(made.data.labels[made.covers], data.labels[made.covers])
    assert (made.data.labels[made.indices] == 2).all()


def test_by_default_three_in_a_thousand_are_poisoned_and_at_least_one(arena, data):
    made = AdaptiveBlend().poison(arena.train, run=Run())
    assert (len(made.indices), len(made.covers)) == (12, 12)
    assert len(AdaptiveBlend().poison(data, run=Run()).indices) == 1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"pieces": 15}, "expected pieces as a square number of 1 or more, got 15"),
        ({"masked": 1.0}, r"expected masked in \[0, 1\), got 1"),
        ({"alpha": 0.0}, r"expected alpha in \(0, 1\], got 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        AdaptiveBlend(**wrong)
