from __future__ import annotations

import pytest
import torch

from detrojan.attacks.tact import TaCT
from detrojan.errors import OptionError
from detrojan.run import Run


def test_the_attack_succeeds_on_its_source_alone(arena):
    outcome = arena.attacked(TaCT(target=3, source=1))
    assert outcome.success >= 0.95
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05
    others = (arena.test.labels != 1) & (arena.test.labels != 3)
    assert arena.success(outcome.model, outcome.made, others) <= 0.1


def test_covers_are_stamped_and_keep_their_label(data):
    made = TaCT(target=2, source=4, poison_rate=0.25, cover_rate=0.1).poison(data, run=Run())
    assert len(made.indices) == 10
    assert (data.labels[made.indices] == 4).all()
    assert (made.data.labels[made.indices] == 2).all()
    assert len(made.covers) == 16
    assert set(data.labels[made.covers].tolist()) <= {0, 1, 2, 3}
    assert torch.equal(made.data.labels[made.covers], data.labels[made.covers])
    stamped = made.backdoors[0].trigger.stamp(data.images[made.covers])
    assert torch.equal(made.data.images[made.covers], stamped)


def test_without_covers_only_the_source_is_touched(data):
    made = TaCT(cover_rate=0.0).poison(data, run=Run())
    assert len(made.covers) == 0
    changed = (made.data.images != data.images).flatten(1).any(1).nonzero().flatten()
    assert torch.equal(changed, made.indices)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"source": 0}, "expected a source of 0 or more that is not the target 0, got 0"),
        ({"source": -1}, "got -1"),
        ({"cover_rate": 1.0}, r"expected cover_rate in \[0, 1\), got 1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        TaCT(**wrong)


def test_a_source_beyond_the_classes_is_refused(data):
    with pytest.raises(OptionError, match="expected a source of 0 to 4, got 7"):
        TaCT(source=7).poison(data, run=Run())
