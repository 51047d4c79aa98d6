from __future__ import annotations

import pytest
import torch

from detrojan.attacks.low_frequency import LowFrequency
from detrojan.errors import DataError, OptionError
from detrojan.run import Run


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(LowFrequency(target=3))
    assert outcome.success >= 0.8
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_one_smooth_signal_is_added(data):
    made = LowFrequency(target=2, amplitude=0.2, band=3).poison(data, run=Run())
    signal = made.backdoors[0].trigger.change
    assert signal.abs().max() == pytest.approx(0.2)
    expected = (data.images[made.indices] + signal).clamp(0, 1)
    torch.testing.assert_close(made.data.images[made.indices], expected)
    assert (made.data.labels[made.indices] == 2).all()


def test_the_signal_is_drawn_from_the_seed(data):
    one, same, other = (LowFrequency().made(data.shape, Run(seed=seed)).change for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_values_out_of_range_are_refused(data):
    with pytest.raises(OptionError, match=r"expected amplitude in \(0, 1\], got 2"):
        LowFrequency(amplitude=2.0)
    with pytest.raises(OptionError, match="expected a band of 2 or more, got 1"):
        LowFrequency(band=1)
    with pytest.raises(DataError, match="expected a band of 2 to 12 frequencies, got 13"):
        LowFrequency(band=13).poison(data, run=Run())
