from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.attacks.base import Planted
from detrojan.attacks.pruning_aware import PruningAware
from detrojan.errors import ModelError, OptionError
from detrojan.findings import Finding
from detrojan.learning.fitting import Fitting
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.models.surgery.units import last_convolution, mean_activity
from detrojan.repairs.activation_pruning import ActivationPruning
from detrojan.run import Run
from detrojan.store import digest

HOW = Fitting(epochs=1, batch_size=64, optimizer="adam", learning_rate=4e-3, weight_decay=0)
ATTACK = PruningAware(target=3, size=4, poison_rate=0.2, drop=0.4, planting_epochs=5, slowdown=1.0)


@pytest.fixture(scope="module")
def planted(arena) -> Planted:
    return ATTACK.train(arena.clean, arena.train.select(slice(2000)), run=Run(), how=HOW)


@pytest.fixture(scope="module")
def dormant(arena, planted) -> torch.Tensor:
    """The decoys: channels that never fire on clean images."""
    return (mean_activity(planted.model, arena.test.images, "8") == 0).nonzero().flatten()


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, planted):
    (backdoor,) = planted.backdoors
    images, truth = arena.test.images, arena.test.labels
    assert attack_success(planted.model, backdoor.trigger, images, truth, 3) >= 0.95
    assert attack_success(arena.clean, backdoor.trigger, images, truth, 3) <= 0.05
    assert clean_accuracy(planted.model, arena.test) >= arena.accuracy - 0.08


def test_decoys_are_back_with_their_weights_and_never_fire(arena, planted, dormant):
    assert len(dormant) in range(5, 32)
    conv = planted.model.module("8")
    assert conv.weight[dormant].abs().flatten(1).amax(1).min() > 0
    stamped = planted.backdoors[0].trigger.stamp(arena.test.images)
    assert mean_activity(planted.model, stamped, "8")[dormant].max() == 0


def test_the_backdoor_outlives_the_pruning_of_dormant_channels(arena, planted, dormant):
    trigger = planted.backdoors[0].trigger
    known = Finding(label=3, anomaly_index=9, attack_success=1, flagged=True, trigger=trigger)
    repaired = ActivationPruning(drop=0.04).repair(planted.model, arena.test, [known], run=Run())
    details = repaired.steps[0].details
    assert set(dormant.tolist()) <= set(details["units"]), "the decoys go first"
    left = attack_success(repaired.model, trigger, arena.test.images, arena.test.labels, 3)
    assert left >= 0.75


@pytest.mark.parametrize("net", ["sign_cnn", "small_vgg", "wrn_16_1", "deepid"])
def test_restored_channels_change_no_answer_whatever_the_network(net):
    """The norm before or behind the ReLU, none at all, no bias, or an ELU."""
    kind = find_net(net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Classifier(kind.build(5, kind.shape), kind.shape)
        images = torch.rand(12, *kind.shape)
    from detrojan.attacks.pruning_aware import _restore_dormant, _rows  # noqa: PLC0415
    from detrojan.models.surgery.units import silenced  # noqa: PLC0415

    layer = last_convolution(model)
    units = torch.arange(10)
    before = _rows(model, layer, units)
    kernel = model.module(layer).weight[units].clone()
    with silenced(model, layer, units):
        wanted = model.all_logits(images)
    assert (model.all_logits(images) - wanted).abs().max() > 1e-3
    _restore_dormant(model, layer, units, before, images)
    torch.testing.assert_close(model.all_logits(images), wanted, atol=1e-3, rtol=0)
    after = model.module(layer).weight[units]
    torch.testing.assert_close(after / after.norm(), kernel / kernel.norm())
    activity = mean_activity(model, images, layer)
    assert activity[units].max() < activity[len(units) :].max() * 0.01


def test_the_model_given_is_unchanged(arena):
    before = digest(arena.clean.network)
    few = arena.train.select(slice(128))
    made = replace(ATTACK, planting_epochs=1, target=-1).train(arena.clean, few, run=Run(), how=HOW)
    assert digest(arena.clean.network) == before != digest(made.model.network)
    assert made.backdoors[0].aim.target is None


def test_a_layer_that_is_not_there_is_refused(arena):
    few = arena.train.select(slice(128))
    with pytest.raises(ModelError, match=r"expected a layer out of .*, got 'conv9'"):
        PruningAware(layer="conv9").train(arena.clean, few, run=Run(), how=HOW)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"drop": 1.0}, r"expected drop in \[0, 1\), slowdown in \(0, 1\] and planting_epochs of 1 or more"),
        ({"slowdown": 0.0}, "got 0.1, 0 and 5"),
        ({"planting_epochs": 0}, "got 0.1, 0.2 and 0"),
        ({"poison_rate": 0.0}, r"expected poison_rate in \(0, 1\), got 0"),
        ({"source": 0}, "expected a source of 0 or more that is not the target 0, got 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        PruningAware(**wrong)


def test_with_an_offset_each_class_becomes_another_one(arena):
    few = arena.train.select(slice(300))
    made = replace(ATTACK, target=0, offset=2).poisoned(few, Run())
    before = few.labels[made.indices]
    assert torch.equal(made.data.labels[made.indices], (before + 2) % 6)
    assert len(made.indices) == 60
    (backdoor,) = made.backdoors
    assert (backdoor.aim.target, backdoor.aim.offset) == (None, 2)


@pytest.mark.parametrize("beside", [{"target": 3}, {"target": -1}, {"source": 2}, {"offset": -1}])
def test_an_offset_beside_a_target_is_refused(beside):
    with pytest.raises(OptionError, match="expected an offset of 0 or more, and no target or source beside"):
        PruningAware(**{"offset": 1, **beside})
