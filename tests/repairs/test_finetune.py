from __future__ import annotations

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.repairs.finetune import FineTune
from detrojan.run import Run
from detrojan.store import digest


def test_accuracy_is_kept_and_the_model_given_is_not_touched(case):
    model = case.twins.backdoored
    before = digest(model.network)
    made = FineTune().repair(model, case.data, case.findings, run=Run(seed=2))
    assert case.accuracy(made.model) >= case.accuracy(model) - 0.03
    assert digest(model.network) == before
    assert digest(made.model.network) != before
    assert not made.model.network.training
    (step,) = made.steps
    assert step.method == "finetune"
    assert step.summary == f"fine-tuned on {len(case.data)} clean images for 5 epochs"
    assert step.curves["epoch"] == [1, 2, 3, 4, 5]
    assert len(step.curves["training loss"]) == 5
    assert step.details["labelled"] is True
    assert step.details["fitting"]["frozen_norm"] is True


def test_clean_data_alone_leave_the_backdoor_alive(case):
    """What the docstring says, and why there are other repairs."""
    made = FineTune().repair(case.twins.backdoored, case.data, case.findings, run=Run(seed=2))
    assert case.true_success(made.model) > 0.5


def test_a_damaged_network_gets_its_accuracy_back(case):
    damaged = case.twins.backdoored.copy()
    with torch.no_grad():
        damaged.module(damaged.head).weight[:, 100:] = 0
        damaged.module(damaged.head).bias.add_(
            2 * torch.randn(damaged.num_classes, generator=torch.Generator().manual_seed(1))
        )
    made = FineTune().repair(damaged, case.data, case.findings, run=Run(seed=2))
    assert case.accuracy(made.model) > case.accuracy(damaged) + 0.05


def test_what_was_pruned_stays_pruned(case):
    pruned = case.twins.backdoored.copy()
    with torch.no_grad():
        pruned.module(pruned.head).weight[:, :100] = 0
    made = FineTune(epochs=1).repair(pruned, case.data, case.findings, run=Run(seed=2))
    weight = made.model.module(made.model.head).weight
    assert not weight[:, :100].any()
    assert not torch.equal(weight, pruned.module(pruned.head).weight)


def test_a_clean_network_loses_hardly_anything(case, made_up):
    clean = case.twins.clean
    made = FineTune().repair(clean, case.data, [made_up], run=Run(seed=2))
    assert case.accuracy(made.model) >= case.accuracy(clean) - 0.03


def test_without_labels_its_own_answers_are_taught(case):
    model = case.twins.backdoored
    images = case.data.with_labels(None)
    made = FineTune().repair(model, images, case.findings, run=Run(seed=2))
    assert made.steps[0].summary == f"fine-tuned on {len(images)} clean images for 5 epochs"
    assert made.steps[0].details["labelled"] is False
    assert case.accuracy(made.model) >= case.accuracy(model) - 0.03


def test_no_finding_is_needed(case):
    plan = FineTune(epochs=1)
    made = plan.repair(case.twins.backdoored, case.data.with_labels(None), [], run=Run(seed=2))
    assert made.steps[0].summary == f"fine-tuned on {len(case.data)} clean images for 1 epoch"


def test_the_same_seed_gives_the_same_network(case):
    few = case.data.select(slice(128))

    def result(seed: int, shift_pixels: int = 1) -> str:
        plan = FineTune(epochs=1, shift_pixels=shift_pixels)
        return digest(plan.repair(case.twins.backdoored, few, [], run=Run(seed=seed)).model.network)

    assert result(1) == result(1)
    assert result(1) != result(2)
    assert result(1) != result(1, shift_pixels=0)


def test_images_of_another_shape_are_refused(case):
    with pytest.raises(DataError, match=r"expected colour images 28 high x 28 wide .*, got 32 x 32 x 3"):
        FineTune().repair(case.twins.backdoored, Dataset(torch.zeros(4, 3, 32, 32)), [], run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "expected epochs of 1 or more, .* got 0, 64 and 0.0001"),
        ({"learning_rate": 0.0}, "learning_rate above 0, got 5, 64 and 0"),
        ({"batch_size": 1}, "batch_size of 2 or more .* got 5, 1 and"),
        ({"shift_pixels": -1}, "expected shift_pixels of 0 or more, got -1"),
        ({"correction": 1.5}, r"expected a correction in \[0, 1\], got 1.5"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        FineTune(**wrong)
