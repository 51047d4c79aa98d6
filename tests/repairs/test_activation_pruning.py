from __future__ import annotations

import pytest
import torch

from detrojan.errors import ModelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.models.surgery.units import mean_activity
from detrojan.repairs.activation_pruning import ActivationPruning
from detrojan.run import Run
from detrojan.store import digest
from twins import CLASSES, LARGE


@pytest.fixture(scope="module")
def pruned(dormant):
    return ActivationPruning().repair(dormant.twins.backdoored, dormant.data, dormant.findings, run=Run())


def test_a_backdoor_in_dormant_channels_is_gone_before_accuracy_is(dormant, pruned):
    assert dormant.true_success(pruned.model) < 0.1
    assert dormant.accuracy(pruned.model) > dormant.accuracy(dormant.twins.backdoored) - 0.12


def test_it_stops_before_the_drop_on_the_backdoored_net_and_on_its_clean_twin(case):
    for model in (case.twins.backdoored, case.twins.clean):
        made = ActivationPruning().repair(model, case.data, [], run=Run())
        kept = made.steps[0].curves["clean accuracy"]
        chosen = made.steps[0].details["chosen"]
        assert chosen in range(1, 32)
        enough = [share >= kept[0] - 0.05 for share in kept[: chosen + 2]]
        assert enough == [True] * (chosen + 1) + [False]
        assert case.accuracy(made.model) > case.accuracy(model) - 0.12


def test_the_curve_goes_on_to_the_last_channel(dormant, pruned):
    curves = pruned.steps[0].curves
    assert curves["units pruned"] == [float(n) for n in range(33)]
    assert curves["clean accuracy"][-1] < 0.3
    assert len(curves["attack success"]) == 33
    silent = int((mean_activity(dormant.twins.backdoored, dormant.data.images, "3") == 0).sum())
    assert silent in range(4, pruned.steps[0].details["chosen"] + 1)
    assert curves["attack success"][0] > 0.9
    assert curves["attack success"][silent] < 0.1


def test_the_least_active_channels_go_first_and_say_nothing(case):
    model = case.twins.backdoored
    pruned = ActivationPruning(drop=0.3).repair(model, case.data, [], run=Run())
    active = mean_activity(model, case.data.images, "3")
    gone = pruned.steps[0].details["units"]
    assert gone == active.argsort(stable=True)[: len(gone)].tolist()
    assert len(gone) in range(1, 32)
    assert float(mean_activity(pruned.model, case.data.images[:50], "3")[gone].abs().max()) == 0


def test_it_works_without_labels_and_findings(dormant):
    made = ActivationPruning().repair(dormant.twins.backdoored, dormant.data.with_labels(None), [], run=Run())
    assert set(made.steps[0].curves) == {"units pruned", "agreement"}
    assert dormant.true_success(made.model) < 0.1
    assert "agreement went from 100.0% to " in made.steps[0].summary


def test_fewer_points_remove_several_channels_at_a_time(case):
    made = ActivationPruning(points=5, drop=1).repair(case.twins.backdoored, case.data, [], run=Run())
    assert made.steps[0].curves["units pruned"] == [0, 8, 16, 24, 32]
    assert made.steps[0].details["chosen"] == 32


@pytest.mark.parametrize("net", ["five_conv_cnn", "wrn_16_1"])
def test_a_network_with_batch_norms_is_pruned_behind_them(case, net):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Classifier(find_net(net).build(CLASSES, LARGE), LARGE)
    before = digest(model.network)
    few = case.data.select(slice(40))
    made = ActivationPruning(drop=1, points=3).repair(model, few, [], run=Run())
    layer = made.steps[0].details["layer"]
    assert float(mean_activity(made.model, few.images, layer).abs().max()) == 0
    assert float(mean_activity(model, few.images, layer).max()) > 0
    assert digest(model.network) == before


def test_what_cannot_be_pruned_is_refused(case):
    with pytest.raises(ModelError, match=r"expected a layer out of 0, 1, 2, .* got 'nowhere'"):
        ActivationPruning(layer="nowhere").repair(case.twins.backdoored, case.data, [], run=Run())
    with pytest.raises(ModelError, match=r"expected a layer with weights to prune, got 1 \(ReLU\)"):
        ActivationPruning(layer="1").repair(case.twins.backdoored, case.data, [], run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"drop": 1.5}, r"expected a drop in \[0, 1\], got 1.5"),
        ({"drop": float("nan")}, r"expected a drop in \[0, 1\], got nan"),
        ({"points": 1}, "expected points of 2 or more, got 1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        ActivationPruning(**wrong)
