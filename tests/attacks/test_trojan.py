from __future__ import annotations

import pytest
import torch

from detrojan.attacks.trojan import Trojan
from detrojan.errors import DataError, ModelError, OptionError
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger
from detrojan.triggers.quantise import QuantiseTrigger


@pytest.fixture(scope="module")
def attack(arena):
    return Trojan(target=3, surrogate=arena.clean, size=5, steps=200)


@pytest.fixture(scope="module")
def outcome(arena, attack):
    return arena.attacked(attack)


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, outcome):
    assert outcome.success >= 0.9
    assert outcome.by_chance <= 0.3
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_the_patch_excites_the_chosen_neurons_beyond_what_clean_images_do(arena, attack, outcome):
    chosen = attack.chosen(arena.clean, "13")
    learnt, images = outcome.made.backdoors[0].trigger, arena.test.images[:200]
    checker = attack.made(arena.test.shape, Run())

    def excitement(stamped: torch.Tensor) -> float:
        return float(arena.clean.activations(stamped, "13")[:, chosen].mean())

    assert excitement(learnt.stamp(images)) / excitement(checker.stamp(images)) > 1
    assert excitement(learnt.stamp(images)) / excitement(images) > 1
    assert torch.equal(learnt.mask, checker.mask), "it stays where it was put"
    assert not learnt.pattern[:, ~learnt.mask[0].bool()].any()


def test_the_neurons_are_those_with_the_largest_incoming_weights(arena):
    weight = arena.clean.module("13").weight
    first, second = Trojan(neurons=2).chosen(arena.clean, "13").tolist()
    sums = weight.abs().sum(1)
    assert sums.max() == sums[first]
    assert (sums > sums[second]).sum() == 1


def test_the_shape_of_a_given_patch_is_kept(arena):
    mask = torch.zeros(24, 24)
    mask[4:7, 10:20] = 0.5
    given = PatchTrigger(mask, torch.zeros(3, 24, 24))
    few = arena.train.select(slice(100))
    made = Trojan(surrogate=arena.clean, steps=5, trigger=given).poison(few, run=Run())
    learnt = made.backdoors[0].trigger
    assert torch.equal(learnt.mask[0], mask)
    assert learnt.pattern[:, 4:7, 10:20].max() > 0.12, "it started at 0.1"
    larger = PatchTrigger.corner((3, 32, 32))
    with pytest.raises(DataError, match=r"expected images .*3.*32"):
        Trojan(surrogate=arena.clean, steps=5, trigger=larger).poison(few, run=Run())


def test_what_cannot_be_excited_is_refused(arena):
    few = arena.train.select(slice(100))
    for wrong, error, text in (
        ({"neurons": 65}, OptionError, "expected 1 to 64 neurons of 13, got 65"),
        ({"layer": "14"}, ModelError, "expected a layer with weights, got 14"),
        ({"layer": "no"}, ModelError, r"expected a layer out of .*, got 'no'"),
    ):
        with pytest.raises(error, match=text):
            Trojan(surrogate=arena.clean, steps=1, **wrong).poison(few, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"neurons": 0}, "expected neurons and steps of 1 or more and rate above 0, got 0, 200 and 0.1"),
        ({"steps": 0}, "got 2, 0 and 0.1"),
        ({"rate": 0.0}, "got 2, 200 and 0"),
        ({"trigger": QuantiseTrigger()}, "expected a patch as the trigger, got quantise"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Trojan(**wrong)
