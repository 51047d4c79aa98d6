from __future__ import annotations

import pytest
import torch

from detrojan.attacks.blend import Blend
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(Blend(target=3))
    assert outcome.success >= 0.95
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_the_same_faint_noise_lies_on_every_poisoned_image(data):
    made = Blend(target=2, alpha=0.25).poison(data, run=Run())
    pattern = (made.data.images[made.indices] - 0.75 * data.images[made.indices]) / 0.25
    torch.testing.assert_close(pattern, made.backdoors[0].trigger.pattern.expand_as(pattern))
    assert pattern[0].std() > 0.2
    assert (made.data.labels[made.indices] == 2).all()
    assert len(made.indices) == 20


def test_the_noise_is_drawn_from_the_seed(data):
    one, same, other = (Blend().planted(data.shape, Run(seed=seed))[0].trigger.pattern for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_another_trigger_takes_the_place_of_the_noise(data):
    picture = PatchTrigger(torch.full((12, 12), 0.5), torch.ones(3, 12, 12))
    made = Blend(trigger=picture).poison(data, run=Run())
    expected = data.images[made.indices] / 2 + 0.5
    torch.testing.assert_close(made.data.images[made.indices], expected)
    assert Blend(trigger=picture).hyper_parameters()["trigger"]["trigger"] == "patch"


def test_an_opacity_out_of_range_is_refused():
    with pytest.raises(OptionError, match=r"expected alpha in \(0, 1\], got 1.5"):
        Blend(alpha=1.5)
