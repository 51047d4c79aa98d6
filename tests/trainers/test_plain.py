from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError, LabelError, OptionError
from detrojan.run import Run
from detrojan.store import digest
from detrojan.trainers.plain import Plain


def test_poisoned_data_plant_their_backdoor_and_clean_data_none(suspect):
    plan = Plain(epochs=10, **suspect.how)
    start = suspect.start()
    before = digest(start.network)
    bad = plan.train(start, suspect.poisoned.data, run=Run(seed=1), poisoned=suspect.poisoned.indices)
    good = plan.train(start, suspect.clean, run=Run(seed=1))
    assert digest(start.network) == before
    assert suspect.success(bad.model) > 0.95
    assert suspect.success(good.model) < 0.1
    assert min(suspect.accuracy(bad.model), suspect.accuracy(good.model)) > 0.9
    assert len(bad.isolated) == 0
    curves = bad.steps[0].curves
    assert curves["poisoned loss"][3] < 0.5 * curves["clean loss"][3]
    assert set(good.steps[0].curves) == {"epoch", "training loss"}


def test_what_does_not_fit_is_refused(suspect):
    few = suspect.clean.select(slice(20))
    with pytest.raises(LabelError, match="expected labelled data for training"):
        Plain().train(suspect.start(), few.with_labels(None), run=Run())
    with pytest.raises(LabelError, match="expected labels of 0 to 7, got up to 9"):
        Plain().train(suspect.start(), few.with_labels(torch.full((20,), 9)), run=Run())
    with pytest.raises(DataError, match="expected positions of poisoned samples of 0 to 19, got 0 to 20"):
        Plain().train(suspect.start(), few, run=Run(), poisoned=torch.tensor([0, 20]))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "expected epochs of 1 or more"),
        ({"weight_decay": -1.0}, "weight_decay of 0 or more"),
        ({"shift_pixels": -1}, "expected shift_pixels of 0 or more, got -1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Plain(**wrong)
