from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, ModelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.repairs.activation_pruning import ActivationPruning
from detrojan.repairs.direction_pruning import DirectionPruning
from detrojan.run import Run
from detrojan.store import digest
from twins import CLASSES, LARGE


@pytest.fixture(scope="module")
def pruned(case):
    return DirectionPruning().repair(case.twins.backdoored, case.data, case.findings, run=Run())


def test_the_attacker_s_trigger_dies_where_pruning_channels_leaves_it(case, pruned):
    given = case.twins.backdoored
    channels = ActivationPruning().repair(given, case.data, [], run=Run())
    assert case.true_success(channels.model) > 0.5
    assert case.true_success(pruned.model) < 0.3
    assert case.accuracy(pruned.model) > case.accuracy(given) - 0.1


def test_it_takes_the_strongest_shrinking_before_the_drop(case):
    for model in (case.twins.backdoored, case.twins.clean):
        made = DirectionPruning(drop=0.02).repair(model, case.data, [], run=Run())
        assert case.accuracy(made.model) > case.accuracy(model) - 0.06
        step = made.steps[0]
        kept, strengths = step.curves["clean accuracy"], step.details["strengths"]
        chosen = strengths.index(step.details["strength"])
        assert chosen in range(1, len(strengths) - 1)
        enough = [share >= kept[0] - 0.02 for share in kept[: chosen + 2]]
        assert enough == [True] * (chosen + 1) + [False]
        shrunk = step.curves["weights shrunk"]
        assert shrunk == sorted(shrunk)
        assert shrunk[0] == 0
        assert step.details["chosen"] == shrunk[chosen]
        assert (strengths[0], strengths[-1]) == (0, pytest.approx(10))


def test_the_trigger_s_success_is_measured_along_the_curve_and_decides_nothing(case, pruned):
    blind = DirectionPruning().repair(case.twins.backdoored, case.data, [], run=Run())
    assert digest(blind.model.network) == digest(pruned.model.network)
    assert "attack success" not in blind.steps[0].curves
    success = pruned.steps[0].curves["attack success"]
    assert len(success) == len(pruned.steps[0].curves["weights shrunk"])
    assert success[0] > 0.9 > success[-1]


def test_it_works_without_labels(case):
    before = digest(case.twins.backdoored.network)
    made = DirectionPruning().repair(case.twins.backdoored, case.data.with_labels(None), [], run=Run())
    assert set(made.steps[0].curves) == {"weights shrunk", "agreement"}
    assert case.true_success(made.model) < 0.3
    assert "agreement went from 100.0% to " in made.steps[0].summary
    assert digest(case.twins.backdoored.network) == before


@pytest.mark.parametrize(("net", "half"), [("five_conv_cnn", 3), ("wrn_16_1", 8), ("deepid", 3)])
def test_the_last_half_of_the_layers_is_pruned_or_as_many_as_are_asked_for(case, net, half):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        shape = (3, 55, 47) if net == "deepid" else LARGE
        model = Classifier(find_net(net).build(CLASSES, shape), shape)
    few = Dataset(torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)))
    # all layers of one network will do
    for asked, layers in ((0, half), (1, 1), (99, None))[: 3 if net == "deepid" else 2]:
        plan = DirectionPruning(layers=asked, drop=1, points=2, samples=4)
        made = plan.repair(model, few, [], run=Run())
        names = made.steps[0].details["layers"]
        assert names[-1] == model.head
        assert layers is None or len(names) == layers
        given, own = model.network.state_dict(), made.model.network.state_dict()
        changed = {name for name in given if not torch.equal(given[name], own[name])}
        assert {name.rpartition(".")[0] for name in changed} == set(names)
        assert all(bool(tensor.isfinite().all()) for tensor in own.values())


def test_what_cannot_be_pruned_is_refused(case):
    with pytest.raises(DataError, match="expected 4 or more clean images, got 3"):
        DirectionPruning().repair(case.twins.backdoored, case.data.select(slice(3)), [], run=Run())
    bare = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), LARGE)
    with pytest.raises(ModelError, match="expected a network with a linear layer or a convolution, got 0, 1"):
        DirectionPruning().repair(bare, case.data.select(slice(8)).with_labels(None), [], run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"drop": 1.5}, r"expected a drop in \[0, 1\], got 1.5"),
        ({"drop": float("nan")}, r"expected a drop in \[0, 1\], got nan"),
        ({"points": 1}, "points of 2 or more .* got 0, 2, 1 and 2500"),
        ({"layers": -1}, "expected layers and shift_pixels of 0 or more, .* got -1, 2, 13 and 2500"),
        ({"shift_pixels": -1}, "expected layers and shift_pixels of 0 or more, .* got 0, -1, 13 and 2500"),
        ({"samples": 0}, "samples of 1 or more, got 0, 2, 13 and 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        DirectionPruning(**wrong)
