from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.errors import OptionError
from detrojan.learning.augmentation import blended, shift, varied
from detrojan.models.surgery.units import mean_activity
from detrojan.repairs.activation_pruning import ActivationPruning
from detrojan.repairs.base import Repaired
from detrojan.repairs.fine_pruning import FinePruning
from detrojan.repairs.lessons import Lesson
from detrojan.run import Run
from detrojan.store import digest
from twins import LARGE

PLAN = FinePruning(drop=0.3, epochs=8, updates=0)


@pytest.fixture(scope="module")
def made(dormant):
    return PLAN.repair(dormant.twins.backdoored, dormant.data, dormant.findings, run=Run(seed=2))


def test_a_backdoor_in_dormant_channels_dies_and_accuracy_comes_back(dormant, made):
    model = dormant.twins.backdoored
    pruned = ActivationPruning(drop=0.3).repair(model, dormant.data, [], run=Run(seed=2))
    assert dormant.true_success(made.model) < 0.1
    assert dormant.accuracy(made.model) > dormant.accuracy(pruned.model) + 0.05


def test_what_was_pruned_stays_pruned(dormant, made):
    gone = made.steps[0].details["units"]
    assert len(gone) > 20
    assert float(mean_activity(made.model, dormant.data.images[:50], "3")[gone].abs().max()) == 0


def test_both_halves_are_written_down(made):
    assert [step.method for step in made.steps] == ["activation_pruning", "finetune"]
    assert made.steps[1].details["fitting"]["epochs"] == 8


@pytest.mark.parametrize(
    ("images", "epochs"),
    [(120, 400), (64, 400), (500, 58), (5000, 10)],  # batches of 64: 1, 1, 7 and 78
)
def test_few_images_are_passed_over_more_often(case, images, epochs):
    how = FinePruning().fitting_for(case.twins.backdoored, torch.zeros(images, *LARGE))
    assert how.epochs == epochs
    assert (how.optimizer, how.learning_rate) == ("adam", 5e-4)


def test_a_network_with_batch_norms_is_tuned_at_a_rate_of_its_own(normed, case):
    how = FinePruning(norm_rate=0.4, norm_updates=21).fitting_for(normed, case.data.images[:64])
    assert (how.optimizer, how.learning_rate, how.epochs, how.frozen_norm) == ("sgd", 0.4, 21, False)
    few = case.data.select(slice(32)).with_labels(None)
    made = FinePruning(epochs=1, norm_updates=2).repair(normed, few, [], run=Run())
    own, given = made.model.network.state_dict(), normed.network.state_dict()
    means = [name for name in given if name.endswith("running_mean")]
    assert any(not torch.equal(own[name], given[name]) for name in means)
    assert made.steps[1].details["fitting"]["optimizer"] == "sgd"


def test_a_network_with_batch_norms_is_shown_images_changed_in_more_ways(normed, case):
    images = case.data.images[:20]

    def changed(vary):
        return vary(images, torch.Generator().manual_seed(4))

    plan = FinePruning(norm_shift_pixels=3, shift_pixels=1)
    assert torch.equal(changed(plan.changes(normed, images)), changed(varied(3)))
    assert torch.equal(changed(plan.changes(case.twins.clean, images)), changed(blended(shift(1))))


def test_a_rate_that_breaks_a_network_with_batch_norms_is_halved(normed, case, monkeypatch):
    few = case.data.select(slice(32)).with_labels(None)
    rates: list[float] = []

    def tuned(self, pruned, _model, _taught, *, run):
        rates.append(self.norm_rate)
        return Repaired(model=pruned, steps=())

    monkeypatch.setattr(FinePruning, "tuned", tuned)
    monkeypatch.setattr(Lesson, "kept", lambda _self, _model: 0.9 if len(rates) == 1 else 0.96)
    FinePruning(norm_rate=0.4).repair(normed, few, [], run=Run())
    assert rates == [0.4, 0.2]


def test_directions_are_pruned_instead_of_channels_where_that_is_asked_for(case):
    plan = FinePruning(unit="directions", epochs=8, updates=0)
    made = plan.repair(case.twins.backdoored, case.data, [], run=Run(seed=2))
    assert [step.method for step in made.steps] == ["direction_pruning", "finetune"]
    assert case.true_success(made.model) < 0.4
    assert case.accuracy(made.model) > case.accuracy(case.twins.backdoored) - 0.08


def test_without_patience_it_is_tuned_as_finetune_does(dormant, normed):
    plan = FinePruning(patient=False, drop=0.3, epochs=8, batch_size=32)
    made = plan.repair(dormant.twins.backdoored, dormant.data, [], run=Run(seed=2))
    pruned = ActivationPruning(drop=0.3).repair(dormant.twins.backdoored, dormant.data, [], run=Run(seed=2))
    assert [step.method for step in made.steps] == ["activation_pruning", "finetune"]
    assert made.steps[1].details["fitting"]["epochs"] == 8, "no passes are added"
    assert dormant.true_success(made.model) < 0.1
    assert dormant.accuracy(made.model) > dormant.accuracy(pruned.model) + 0.05
    few = dormant.data.select(slice(32))
    how = FinePruning(patient=False, epochs=1).repair(normed, few, [], run=Run()).steps[1].details["fitting"]
    assert (how["optimizer"], how["learning_rate"], how["frozen_norm"]) == ("adam", 5e-4, True)


def test_without_patience_labels_correct_what_is_taught(case):
    """Wrong labels among right ones are learnt then: nothing else says so."""
    few = case.data.select(slice(64))
    labels = few.labels.clone()
    labels[:16] = (labels[:16] + 1) % case.twins.clean.num_classes
    plan = FinePruning(drop=0.0, epochs=40, learning_rate=3e-3, batch_size=16, updates=0, shift_pixels=0)
    learnt = {}
    for patient in (True, False):
        how = replace(plan, patient=patient)
        made = how.repair(case.twins.clean, few.with_labels(labels), [], run=Run(seed=2))
        learnt[patient] = float((made.model.answers(few.images[:16]) == labels[:16]).float().mean())
    assert learnt[True] < 0.2
    assert learnt[False] > 0.8


def test_a_clean_network_loses_little(case):
    made = FinePruning(updates=150).repair(case.twins.clean, case.data, [], run=Run(seed=2))
    assert case.accuracy(made.model) >= case.accuracy(case.twins.clean) - 0.04


def test_without_labels_the_delivered_network_teaches_not_the_pruned_one(dormant):
    model = dormant.twins.backdoored
    before = digest(model.network)
    made = FinePruning(drop=0.3, epochs=4, updates=80).repair(
        model, dormant.data.with_labels(None), [], run=Run(seed=2)
    )
    assert digest(model.network) == before
    pruned = ActivationPruning(drop=0.3).repair(model, dormant.data.with_labels(None), [], run=Run(seed=2))
    assert dormant.accuracy(made.model) > dormant.accuracy(pruned.model)
    assert dormant.true_success(made.model) < 0.1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "expected epochs of 1 or more"),
        ({"updates": -1}, "norm_shift_pixels of 0 or more, got -1, 1600, 1, 4"),
        ({"norm_rate": 0.0}, "expected a norm_rate above 0, got 0"),
        ({"drop": -0.1}, r"expected a drop in \[0, 1\], got -0.1"),
        ({"unit": "directions", "layer": "0"}, "layer and points with channels, got them with dir"),
        ({"unit": "neurons"}, "expected channels or directions as the unit, got 'neurons'"),
        ({"shift_pixels": -1}, "norm_shift_pixels of 0 or more, got 400, 1600, -1, 4"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        FinePruning(**wrong)
