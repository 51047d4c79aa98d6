from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from detrojan.attacks.badnets import BadNets
from detrojan.learning.identity import identified
from detrojan.models.classifier import Classifier
from detrojan.triggers.aim import Aim
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

SHAPE = (1, 4, 4)


def linear(weight: float) -> nn.Sequential:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    nn.init.constant_(network[1].weight, weight)
    nn.init.zeros_(network[1].bias)
    return network


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ("a", "b"),
        (True, False),
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2), torch.tensor([0.0, 1.0])),
        (linear(0), linear(1)),
        (Classifier(linear(0), SHAPE), Classifier(linear(1), SHAPE)),
        (PatchTrigger.corner(SHAPE, size=1), PatchTrigger.corner(SHAPE, size=2)),
        (
            Backdoor(trigger=PatchTrigger.corner(SHAPE), target=1),
            Backdoor(trigger=PatchTrigger.corner(SHAPE), aim=Aim(offset=1)),
        ),
        ({"x": 1}, {"y": 1}),
        ([1, 2], (2, 1)),
    ],
)
def test_what_differs_is_told_apart_in_plain_values(one, other):
    values = json.dumps(identified({"it": one}))
    assert values != json.dumps(identified({"it": other}))
    assert values == json.dumps(identified({"it": one}))


def test_functions_are_refused():
    """Nothing says what a function will do: two that enclose different values would look alike."""
    with pytest.raises(TypeError, match="expected plain values, tensors, networks or triggers, got function"):
        identified({"loss": lambda: 0})


def test_a_method_says_which_of_its_trainings_it_is():
    one, other = BadNets(target=1), BadNets(target=2)
    assert one.identity("first") == BadNets(target=1).identity("first")
    assert one.identity("first") != one.identity("second")
    assert one.identity("first") != other.identity("first")
    assert one.identity("first", seen=1) != one.identity("first", seen=2)
