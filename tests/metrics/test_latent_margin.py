from __future__ import annotations

import time

import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from detrojan.errors import ModelError
from detrojan.metrics.latent_margin import box_margins, latent_margins
from detrojan.models.classifier import Classifier
from twins import TARGET


def exact(weight, bias, low, high, label: int) -> float:
    """The same maximum by linear programming: maximise m with m <= (w_t - w_c) z + b_t - b_c for all c."""
    others = [c for c in range(len(weight)) if c != label]
    slopes = (weight[others] - weight[label]).numpy()
    rows = [[*row, 1.0] for row in slopes]
    limits = (bias[label] - bias[others]).numpy()
    box = [*zip(low.tolist(), high.tolist(), strict=True), (None, None)]
    solved = linprog([0.0] * len(low) + [-1.0], A_ub=rows, b_ub=limits, bounds=box)
    return float(-solved.fun)


@pytest.mark.parametrize("signed", [False, True])
def test_it_is_nearly_the_exact_maximum(signed):
    random = torch.Generator().manual_seed(2)
    weight, bias = torch.randn(12, 20, generator=random), torch.randn(12, generator=random)
    high = 3 * torch.rand(20, generator=random)
    low = -torch.rand(20, generator=random) if signed else torch.zeros(20)
    found = box_margins(weight, bias, low, high, steps=200)
    for label in range(12):
        best = exact(weight, bias, low, high, label)
        assert 0.93 * best <= float(found[label]) <= best + 1e-3


def test_a_thousand_labels_take_seconds():
    random = torch.Generator().manual_seed(2)
    weight = torch.randn(1283, 160, generator=random)
    weight[700] *= 2
    begun = time.process_time()
    found = box_margins(weight, torch.zeros(1283), torch.zeros(160), torch.ones(160), steps=80)
    assert time.process_time() - begun < 8
    assert int(found.argmax()) == 700


def test_the_target_wins_by_the_widest_margin(twins):
    infected = latent_margins(twins.backdoored, twins.test.images)
    assert int(infected.argmax()) == TARGET
    others = infected[torch.arange(len(infected)) != TARGET]
    assert float(infected[TARGET] / others.max()) > 1.2
    clean = latent_margins(twins.clean, twins.test.images)
    assert float(clean[TARGET] / clean.median()) < 1.4


def test_other_networks_are_refused(twins):
    images = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    no_head = Classifier(nn.Sequential(nn.Conv2d(3, 5, 8), nn.Flatten()), (3, 8, 8))
    with pytest.raises(ModelError, match="expected a network that ends in a linear layer"):
        latent_margins(no_head, images)


def test_one_output_for_two_classes():
    torch.manual_seed(0)
    images = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    layers = [nn.Flatten(), nn.Linear(192, 6), nn.ReLU()]
    last, both = nn.Linear(6, 1), nn.Linear(6, 2)
    with torch.no_grad():
        both.weight.copy_(torch.cat([last.weight * 0, last.weight]))
        both.bias.copy_(torch.cat([last.bias * 0, last.bias]))
    one, two = (Classifier(nn.Sequential(*layers, end), (3, 8, 8)) for end in (last, both))
    torch.testing.assert_close(latent_margins(one, images), latent_margins(two, images))
