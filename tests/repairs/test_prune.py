from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError, ModelError, OptionError
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.repairs.prune import POINTS, Prune
from detrojan.run import Run
from detrojan.store import digest
from detrojan.triggers.aim import Aim
from twins import LARGE

CONV = "3"


@pytest.fixture(scope="module")
def pruned(case):
    """The penultimate features of the backdoored network, pruned with labelled images."""
    plan = Prune(success=0.05, drop=0.2)
    return plan.repair(case.twins.backdoored, case.data, case.findings, run=Run())


@pytest.fixture(scope="module")
def pruned_conv(dormant):
    return Prune(layer=CONV).repair(dormant.twins.backdoored, dormant.data, dormant.findings, run=Run())


def series(made) -> tuple[list[float], list[float], list[float]]:
    counts, accuracy, success = made.steps[0].curves.values()
    return counts, accuracy, success


def without_units(model: Classifier, units: list[int]) -> Classifier:
    """Really silence penultimate features: what the head is fed is zeroed while the network runs."""
    copy = model.copy()
    head = copy.module(copy.head)
    head.register_forward_pre_hook(
        lambda _m, inputs: inputs[0].index_fill(1, torch.tensor(units, dtype=torch.int64), 0.0)
    )
    return copy


# --- penultimate features ---------------------------------------------------------------------------


def test_the_trigger_dies_by_its_neurons(case, pruned):
    assert case.recovered_success(pruned.model) < 0.2
    assert case.true_success(pruned.model) < 0.2
    assert case.accuracy(pruned.model) > case.accuracy(case.twins.backdoored) - 0.2


def test_the_curve_goes_from_no_unit_to_all(pruned):
    counts, accuracy, success = series(pruned)
    assert counts == list(range(513))
    assert len(accuracy) == len(success) == 513
    assert all(0 <= value <= 1 for value in accuracy + success)
    assert accuracy[0] > 0.9
    assert success[0] > 0.9
    assert success[-1] in {0.0, 1.0}, "without features every image gets the same answer"


def test_the_fast_curve_is_that_of_the_pruned_network(case, pruned):
    model = case.twins.backdoored
    everything = Prune(success=0, drop=1).repair(model, case.data, case.findings, run=Run())
    order = pruned.steps[0].details["units"]
    assert everything.steps[0].details["units"][: len(order)] == order
    counts, accuracy, success = series(pruned)
    for count in (0, 1, 7, len(order) // 2, len(order)):
        really = without_units(model, order[:count])
        assert counts[count] == count
        assert accuracy[count] == pytest.approx(clean_accuracy(really, case.data), abs=1.01 / len(case.data))
        hits = attack_success(really, case.finding.trigger, case.data.images, case.data.labels, 3)
        assert success[count] == pytest.approx(hits, abs=3.01 / len(case.data))


def test_exactly_the_reported_units_are_gone(case, pruned):
    details = pruned.steps[0].details
    units = details["units"]
    assert details["layer"] == case.twins.backdoored.head
    assert 0 < details["chosen"] == len(units) == len(set(units)) < 512
    before = dict(case.twins.backdoored.network.state_dict())
    after = dict(pruned.model.network.state_dict())
    weight = f"{details['layer']}.weight"
    for name in before.keys() - {weight}:
        assert torch.equal(before[name], after[name]), name
    gone = torch.zeros(512, dtype=torch.bool)
    gone[units] = True
    assert not after[weight][:, gone].any()
    assert torch.equal(after[weight][:, ~gone], before[weight][:, ~gone])


def test_the_pruned_network_answers_like_one_without_these_units(case, pruned):
    really = without_units(case.twins.backdoored, pruned.steps[0].details["units"])
    images = case.twins.test.images[:100]
    torch.testing.assert_close(pruned.model.all_logits(images), really.all_logits(images))


@pytest.mark.parametrize(("success", "drop"), [(0.05, 0.2), (0.5, 0.2), (0.0, 0.03), (0.01, 1.0), (0.3, 0.0)])
def test_it_stops_by_its_rule(case, success, drop):
    plan = Prune(success=success, drop=drop)
    made = plan.repair(case.twins.backdoored, case.data, case.findings, run=Run())
    chosen = made.steps[0].details["chosen"]
    _, accuracy, works = series(made)
    floor = accuracy[0] - drop
    assert all(kept >= floor for kept in accuracy[: chosen + 1])
    assert all(value > success for value in works[:chosen])
    assert any((works[chosen] <= success, accuracy[chosen + 1] < floor))


def test_where_the_trigger_does_not_work_nothing_is_pruned(case, made_up):
    clean = case.twins.clean
    for data in (case.data, case.data.with_labels(None)):
        made = Prune().repair(clean, data, [made_up], run=Run())
        assert made.steps[0].details["chosen"] == 0
        assert made.steps[0].details["units"] == []
        assert digest(made.model.network) == digest(clean.network)


def test_both_ranks_prefer_neurons_that_the_trigger_excites(case):
    """Taking the same number of random neurons instead does not touch the backdoor."""
    model = case.twins.backdoored
    orders = {}
    for rank in ("pull", "difference"):
        plan = Prune(rank=rank, success=0, drop=1)
        orders[rank] = plan.repair(model, case.data, case.findings, run=Run()).steps[0].details["units"][:100]
    shuffled = torch.randperm(512, generator=torch.Generator().manual_seed(4))[:100].tolist()
    left = {name: case.true_success(without_units(model, units)) for name, units in orders.items()}
    assert orders["pull"] != orders["difference"]
    assert left["pull"] < 0.3
    assert left["difference"] < 0.6
    assert case.true_success(without_units(model, shuffled)) > case.true_success(model) - 0.1


def test_the_difference_is_that_of_the_mean_activations(case):
    model = case.twins.backdoored
    made = Prune(rank="difference", success=0, drop=1).repair(model, case.data, case.findings, run=Run())
    stamped = case.finding.trigger.stamp(case.data.images)
    excess = model.activations(stamped).mean(0) - model.activations(case.data.images).mean(0)
    in_order = excess[made.steps[0].details["units"]]
    assert (in_order.diff() <= 1e-6).all()


def test_without_labels_agreement_is_measured(case):
    model = case.twins.backdoored
    made = Prune(drop=0.2).repair(model, case.data.with_labels(None), case.findings, run=Run())
    (step,) = made.steps
    assert list(step.curves) == ["units pruned", "agreement", "attack success"]
    assert step.curves["agreement"][0] == 1
    assert step.details["labelled"] is False
    assert ", agreement from 100.0% to " in step.summary
    assert case.recovered_success(made.model) < 0.3
    assert case.true_success(made.model) < 0.5
    assert all(share >= 0.8 for share in step.curves["agreement"][: step.details["chosen"] + 1])


# --- a named layer ----------------------------------------------------------------------------------


def test_units_of_a_convolution_are_pruned(dormant, pruned_conv):
    (step,) = pruned_conv.steps
    units = step.details["units"]
    assert step.details["layer"] == CONV
    assert len(units) in range(1, 32)
    before = dict(dormant.twins.backdoored.network.state_dict())
    after = dict(pruned_conv.model.network.state_dict())
    for name in before.keys() - {f"{CONV}.weight", f"{CONV}.bias"}:
        assert torch.equal(before[name], after[name]), name
    for part in ("weight", "bias"):
        changed = (before[f"{CONV}.{part}"] != after[f"{CONV}.{part}"]).flatten(1 if part == "weight" else 0)
        changed = changed.any(1) if part == "weight" else changed
        assert changed.nonzero().flatten().tolist() == sorted(units)
        assert not after[f"{CONV}.{part}"][units].any()
    assert not pruned_conv.model.activations(torch.rand(5, *LARGE), CONV)[:, units].any()
    assert dormant.true_success(pruned_conv.model) < 0.1
    assert dormant.accuracy(pruned_conv.model) > dormant.accuracy(dormant.twins.backdoored) - 0.05


def test_the_curve_of_a_layer_is_measured(dormant, pruned_conv):
    counts, accuracy, success = series(pruned_conv)
    assert counts == list(range(33))
    chosen = pruned_conv.steps[0].details["chosen"]
    assert accuracy[chosen] == pytest.approx(clean_accuracy(pruned_conv.model, dormant.data))
    hits = attack_success(
        pruned_conv.model,
        dormant.finding.trigger,
        dormant.data.images,
        dormant.data.labels,
        dormant.finding.label,
    )
    assert success[chosen] == pytest.approx(hits)


def test_a_wide_layer_is_measured_at_some_points(case):
    few = case.data.select(slice(60))
    plan = Prune(layer="7", success=0, drop=1)
    counts, accuracy, success = series(plan.repair(case.twins.backdoored, few, case.findings, run=Run()))
    assert len(counts) == len(accuracy) == len(success) == POINTS
    assert counts[0] == 0
    assert counts[-1] == 512
    assert all(after > before for before, after in pairwise(counts))


# --- what holds for both ----------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["", CONV])
def test_the_model_given_is_not_touched_and_the_result_repeats(case, layer):
    model = case.twins.backdoored
    before = digest(model.network)
    few = case.data.select(slice(100))
    results = [
        digest(Prune(layer=layer).repair(model, few, case.findings, run=Run(seed=seed)).model.network)
        for seed in (1, 1, 2)
    ]
    assert digest(model.network) == before
    assert len(set(results)) == 1, "nothing in it is random"
    assert results[0] != before


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("1", r"expected a layer with weights to prune, got 1 \(ReLU\)"),
        ("6", r"expected a layer with weights to prune, got 6 \(Flatten\)"),
        ("conv9", r"expected a layer out of 0, 1, .*, got 'conv9'"),
    ],
)
def test_a_layer_that_cannot_be_pruned_is_refused(case, layer, text):
    with pytest.raises(ModelError, match=text):
        Prune(layer=layer).repair(case.twins.backdoored, case.data, case.findings, run=Run())


def test_findings_without_a_trigger_are_refused(case):
    for findings, got in (
        ([], "no findings"),
        ([dataclasses.replace(case.finding, trigger=None)], "0 of 1 with one"),
    ):
        with pytest.raises(OptionError, match=f"expected findings with .* for prune, got {got}"):
            Prune().repair(case.twins.backdoored, case.data, findings, run=Run())


@pytest.mark.parametrize("layer", ["", CONV])
def test_what_does_not_fit_the_network_is_refused(case, layer):
    model, plan = case.twins.backdoored, Prune(layer=layer)
    with pytest.raises(DataError, match=r"expected colour images 28 high x 28 wide .*, got 32 x 32 x 3"):
        plan.repair(model, Dataset(torch.zeros(4, 3, 32, 32)), case.findings, run=Run())
    beyond = dataclasses.replace(case.finding, label=8, aim=Aim(target=8))
    with pytest.raises(LabelError, match="expected findings of labels 0 to 7, got 8"):
        plan.repair(model, case.data, [beyond], run=Run())
    own = case.data.select(case.data.labels == case.finding.label)
    with pytest.raises(LabelError, match="expected images of classes other than the target 3, got none"):
        plan.repair(model, own, case.findings, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"rank": "random"}, "expected the rank pull or difference, got 'random'"),
        ({"success": -0.1}, r"expected success and drop in \[0, 1\], got -0.1 and 0.1"),
        ({"drop": 1.1}, r"expected success and drop in \[0, 1\], got 0.01 and 1.1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Prune(**wrong)
