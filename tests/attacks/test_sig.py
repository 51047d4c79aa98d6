from __future__ import annotations

import pytest
import torch

from detrojan.attacks.sig import SIG
from detrojan.errors import OptionError
from detrojan.run import Run


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(SIG(target=3, amplitude=60 / 255, poison_rate=0.9))
    assert outcome.success >= 0.6
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_images_of_the_target_class_get_stripes_and_keep_their_label(data):
    made = SIG(target=2, poison_rate=0.25, amplitude=0.1, frequency=3).poison(data, run=Run())
    assert len(made.indices) == 10
    assert (data.labels[made.indices] == 2).all()
    assert torch.equal(made.data.labels, data.labels)
    added = made.data.images[made.indices] - data.images[made.indices]
    wave = 0.1 * torch.sin(torch.arange(12) * (torch.pi / 2))
    clipped = (data.images[made.indices] + wave).clamp(0, 1) - data.images[made.indices]
    torch.testing.assert_close(added, clipped, atol=1e-6, rtol=0)


def test_the_whole_class_may_be_poisoned_but_not_more(data):
    assert len(SIG(poison_rate=1.0).poison(data, run=Run()).indices) == 40
    with pytest.raises(OptionError, match=r"expected poison_rate in \(0, 1\], got 1.1"):
        SIG(poison_rate=1.1)


def test_a_target_without_images_is_refused(data):
    with pytest.raises(OptionError, match="expected a target of 0 to 4, got 5"):
        SIG(target=5).poison(data, run=Run())
    few = data.select(data.labels != 4)
    with pytest.raises(OptionError, match="expected 1 to 0 images of the target's class 4 to poison, got 0"):
        SIG(target=4).poison(few, run=Run())
