from __future__ import annotations

import pytest
import torch

from detrojan.attacks.wanet import WaNet
from detrojan.errors import OptionError
from detrojan.run import Run


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(WaNet(target=3, strength=4.0, grid=8, poison_rate=0.3, cover_rate=0.1))
    assert outcome.success >= 0.8
    assert outcome.by_chance <= 0.1
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_poison_is_warped_by_one_field_and_covers_by_noisy_ones(data):
    made = WaNet(target=2, strength=2.0).poison(data, run=Run())
    trigger = made.backdoors[0].trigger
    assert (len(made.indices), len(made.covers)) == (20, 40)
    assert torch.equal(made.data.images[made.indices], trigger.stamp(data.images[made.indices]))
    assert torch.equal(made.data.labels[made.covers], data.labels[made.covers])
    covers, plain = made.data.images[made.covers], data.images[made.covers]
    off = (covers - trigger.stamp(plain)).abs().flatten(1).mean(1)
    assert (off > 0.02).all(), "every cover is warped by noise of its own as well"
    assert (off < (covers - plain).abs().flatten(1).mean(1)).all(), "but near to the field"


def test_the_field_is_drawn_from_the_seed_and_moves_as_far_as_stated():
    def field(seed: int, **changed: float) -> torch.Tensor:
        return WaNet(**changed).made((3, 32, 32), Run(seed=seed)).field

    assert torch.equal(field(1), field(1))
    assert not torch.equal(field(1), field(2))
    torch.testing.assert_close(field(1, strength=2.0), 4 * field(1))
    assert field(1, strength=2.0).abs().mean() == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"strength": 0.0}, "expected strength above 0 and grid of 2 or more, got 0 and 4"),
        ({"grid": 1}, "got 0.5 and 1"),
        ({"cover_rate": -0.1}, r"expected cover_rate in \[0, 1\), got -0.1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        WaNet(**wrong)


def test_more_covers_than_images_left_are_refused(data):
    with pytest.raises(OptionError, match=r"expected 1 to 100 images to cover .* got 120; change the cover"):
        WaNet(poison_rate=0.5, cover_rate=0.6).poison(data, run=Run())
