from __future__ import annotations

import pytest
import torch

from detrojan.attacks.bpp import Bpp
from detrojan.errors import OptionError
from detrojan.run import Run


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(Bpp(target=3, levels=4, poison_rate=0.3))
    assert outcome.success >= 0.85
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_poison_has_few_colours_and_covers_have_noise_of_the_same_size(data):
    made = Bpp(target=2, levels=5).poison(data, run=Run())
    poison = made.data.images[made.indices]
    torch.testing.assert_close(poison.unique(), torch.tensor([0, 0.25, 0.5, 0.75, 1]))
    assert (len(made.indices), len(made.covers)) == (20, 20)
    cover, before = made.data.images[made.covers], data.images[made.covers]
    assert len(cover.unique()) > 1000, "covers keep their colours"
    errors = (poison - data.images[made.indices]).abs().mean()
    assert float((cover - before).abs().mean() / errors) == pytest.approx(1, rel=0.25)
    assert torch.equal(made.data.labels[made.covers], data.labels[made.covers])


def test_without_dither_each_pixel_goes_to_its_nearest_level(data):
    made = Bpp(levels=3, dither=False, cover_rate=0.0).poison(data, run=Run())
    expected = (data.images[made.indices] * 2).round() / 2
    torch.testing.assert_close(made.data.images[made.indices], expected)
    assert len(made.covers) == 0


def test_levels_out_of_range_are_refused():
    with pytest.raises(OptionError, match="expected levels of 2 to 255, got 1"):
        Bpp(levels=1)
