from __future__ import annotations

import pytest
import torch

from detrojan.jobs.demo import REMOVED, Truth, shortcomings, sticker


def test_the_sticker_covers_its_square_and_nothing_else():
    trigger = sticker((3, 32, 32))
    stamped = trigger.stamp(torch.zeros(1, 3, 32, 32))[0]
    assert int((stamped.sum(0) > 0).sum()) == int(trigger.l1)
    assert stamped[0].max() > stamped[2].max(), "yellow has more red than blue"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"success_before": 0.5}, "was not planted well: the sticker works on 50.0%"),
        ({"success_after": REMOVED + 0.1}, "the true trigger still works on 15.0%"),
        ({"accuracy_after": 0.8}, "the repair cost too much: accuracy 98.0% to 80.0%"),
    ],
)
def test_what_went_wrong_is_said(change, says):
    values = {
        "accuracy_before": 0.98, "accuracy_after": 0.97, "success_before": 0.99, "success_after": 0.01,
        "twin_accuracy": 0.98,
    }  # fmt: skip
    found = shortcomings(Truth(**(values | change)))
    assert found == [] if says is None else len(found) == 1 and says in found[0]
