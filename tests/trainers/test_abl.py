from __future__ import annotations

import pytest
import torch

from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.store import digest
from detrojan.trainers.abl import ABL, held_loss
from detrojan.trainers.base import LateLosses


def plan(suspect, **changed) -> ABL:
    few = {"isolation_epochs": 8, "epochs": 8, "isolation_rate": 0.05, **suspect.how}
    return ABL(**(few | changed))


@pytest.fixture(scope="module")
def made(suspect):
    data = suspect.poisoned.data
    return plan(suspect).train(suspect.start(), data, run=Run(seed=1), poisoned=suspect.poisoned.indices)


def test_the_isolated_samples_are_poisoned(suspect, made):
    assert len(made.isolated) == round(0.05 * len(suspect.poisoned.data))
    share = float(torch.isin(made.isolated, suspect.poisoned.indices).double().mean())
    assert share >= 0.9
    assert made.steps[0].details["precision"] == share


def test_the_backdoor_is_gone_and_accuracy_is_kept(suspect, made):
    before_unlearning = plan(suspect, unlearn_epochs=0)
    data = suspect.poisoned.data
    without = before_unlearning.train(suspect.start(), data, run=Run(seed=1))
    assert suspect.success(without.model) > 0.95
    assert suspect.success(made.model) < 0.2
    assert suspect.accuracy(made.model) > suspect.accuracy(without.model) - 0.03


def test_clean_data_give_a_network_as_good_as_without(suspect):
    data = suspect.clean
    made = plan(suspect, isolation_rate=0.01).train(suspect.start(), data, run=Run(seed=1))
    assert suspect.accuracy(made.model) > 0.93
    assert suspect.success(made.model) < 0.1
    assert len(made.isolated) == 12
    assert [step.method for step in made.steps[2:]] == ["abl unlearning", "abl second unlearning"]
    for step in made.steps[2:]:
        assert step.details["undone"] is True
        assert "of their labels: a sign that what was isolated is hardly poison" in step.summary
    assert made.steps[2].details["accuracy lost"] > 0.1


def test_what_is_no_easier_than_the_rest_is_found_at_a_second_look(suspect, monkeypatch):
    """Where the losses lead to clean samples, the poison is found by what half of an image says."""
    data, poisoned = suspect.poisoned.data, suspect.poisoned.indices
    measured = LateLosses.median

    def median(self):
        return measured(self).index_fill(0, poisoned, 1.0)

    monkeypatch.setattr(LateLosses, "median", median)
    made = plan(suspect).train(suspect.start(), data, run=Run(seed=1), poisoned=poisoned)
    assert [step.details.get("undone") for step in made.steps] == [None, None, True, False]
    assert made.steps[0].details["precision"] < 0.1
    assert made.steps[3].details["precision"] > 0.9
    assert float(torch.isin(made.isolated, poisoned).double().mean()) == made.steps[3].details["precision"]
    assert suspect.success(made.model) < 0.6  # 1.0 before it
    assert suspect.accuracy(made.model) > 0.93


def test_the_curves_show_the_gap(made):
    assert [step.method for step in made.steps] == ["abl isolation", "abl training", "abl unlearning"]
    curves = made.steps[0].curves
    assert curves["poisoned loss"][-1] < 0.1
    assert 0.3 < curves["clean loss"][-1] < 0.9
    assert made.steps[2].details["undone"] is False
    assert made.steps[2].details["loss after"] > made.steps[2].details["loss before"] + 1


def test_the_isolated_come_in_the_order_of_their_loss(suspect):
    data = suspect.clean.select(slice(200))
    start = suspect.start()
    before = digest(start.network)
    quick = plan(suspect, isolation_epochs=1, epochs=1, unlearn_epochs=0, isolation_rate=0.1)
    made = quick.train(start, data, run=Run(seed=1))
    assert digest(start.network) == before
    assert len(made.isolated) == 20
    assert len(made.isolated.unique()) == 20
    assert len(made.steps) == 2
    with torch.random.fork_rng(devices=[]):
        flooded = plan(suspect, isolation="flooding", isolation_epochs=1, epochs=1, unlearn_epochs=0)
        assert len(flooded.train(start, data, run=Run(seed=1)).isolated) == 10


def test_the_held_loss_climbs_below_gamma_and_descends_above():
    labels, index = torch.tensor([0, 1]), torch.arange(2)
    for kind in ("ascent", "flooding"):
        for scale, sign in ((5.0, -1), (0.1, 1)):
            logits = (torch.eye(2) * scale).requires_grad_()
            value = held_loss(kind, 0.5)(logits, labels, index)
            (slope,) = torch.autograd.grad(value, logits)
            # the slope of plain cross entropy at the label's logit is below 0
            assert torch.sign(slope[0, 0]) == -sign


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"isolation": "none"}, "expected the isolation ascent or flooding, got 'none'"),
        ({"gamma": 0.0}, r"expected gamma above 0 and isolation_rate in \(0, 1\), got 0 and 0.01"),
        ({"isolation_rate": 1.0}, "got 0.5 and 1"),
        ({"unlearn_epochs": -1}, "expected unlearn_epochs and shift_pixels of 0 or more, got -1 and 4"),
        ({"unlearn_rate": 0.0}, "learning_rate above 0"),
        ({"isolation_epochs": 0}, "expected epochs of 1 or more"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        ABL(**wrong)


def test_nothing_left_to_train_on_is_refused(suspect):
    with pytest.raises(OptionError, match="expected 2 or more samples beside the isolated ones, got 1"):
        ABL(isolation_rate=0.9).train(suspect.start(), suspect.clean.select(slice(10)), run=Run())
