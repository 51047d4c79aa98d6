from __future__ import annotations

import pytest

from detrojan.errors import OptionError
from detrojan.models.units import mean_activity
from detrojan.repairs.activation_pruning import ActivationPruning
from detrojan.repairs.fine_pruning import FinePruning
from detrojan.run import Run
from detrojan.store import digest

PLAN = FinePruning(drop=0.2, epochs=8, updates=0)


@pytest.fixture(scope="module")
def made(case):
    return PLAN.repair(case.twins.backdoored, case.data, case.findings, run=Run(seed=2))


def test_the_attack_dies_and_accuracy_comes_back(case, made):
    pruned = ActivationPruning(drop=0.2).repair(case.twins.backdoored, case.data, [], run=Run(seed=2))
    assert case.true_success(case.twins.backdoored) > 0.95
    assert case.true_success(made.model) < 0.1
    assert case.accuracy(made.model) > case.accuracy(pruned.model) + 0.05


def test_what_was_pruned_stays_pruned(case, made):
    gone = made.steps[0].details["units"]
    assert len(gone) > 20
    assert float(mean_activity(made.model, case.data.images[:50], "3")[gone].abs().max()) == 0


def test_both_halves_are_written_down(made):
    assert [step.method for step in made.steps] == ["activation_pruning", "finetune"]
    assert made.steps[1].details["fitting"]["epochs"] == 8


@pytest.mark.parametrize(
    ("images", "epochs"),
    [(120, 200), (64, 200), (500, 29), (5000, 10)],  # batches of 64: 1, 1, 7 and 78
)
def test_few_images_are_passed_over_more_often(images, epochs):
    assert FinePruning().tuning(images).epochs == epochs


def test_a_clean_network_loses_little(case):
    made = FinePruning(epochs=5).repair(case.twins.clean, case.data, [], run=Run(seed=2))
    assert case.accuracy(made.model) >= case.accuracy(case.twins.clean) - 0.03


def test_without_labels_the_delivered_network_teaches_not_the_pruned_one(case):
    model = case.twins.backdoored
    before = digest(model.network)
    made = FinePruning(drop=0.2, epochs=4).repair(model, case.data.with_labels(None), [], run=Run(seed=2))
    assert digest(model.network) == before
    pruned = ActivationPruning(drop=0.2).repair(model, case.data.with_labels(None), [], run=Run(seed=2))
    assert case.accuracy(made.model) > case.accuracy(pruned.model) + 0.03
    assert case.true_success(made.model) < 0.2


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "expected epochs of 1 or more"),
        ({"updates": -1}, "expected updates of 0 or more, got -1"),
        ({"drop": -0.1}, r"expected a drop in \[0, 1\], got -0.1"),
        ({"shift_pixels": -1}, "expected shift_pixels of 0 or more, got -1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        FinePruning(**wrong)
