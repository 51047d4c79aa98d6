from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.metrics.input_margin import input_margins
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from twins import CLASSES, TARGET


def test_the_maximum_of_a_linear_network_is_found():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.randn(2, 64, generator=torch.Generator().manual_seed(1)))
    model = Classifier(network, (1, 8, 8))
    found = input_margins(model, [0, 1], run=Run(), starts=2, steps=100)
    weight, bias = network[1].weight.detach(), network[1].bias.detach()
    slope, offset = weight[0] - weight[1], bias[0] - bias[1]
    best = [float(slope.clamp(min=0).sum() + offset), float((-slope).clamp(min=0).sum() - offset)]
    assert found.margins.tolist() == pytest.approx(best, rel=1e-3)
    assert found.passes == 2 * 2 * 101


def test_the_image_it_returns_gives_the_margin(twins):
    found = input_margins(twins.backdoored, [1, TARGET], run=Run(seed=1), starts=3, steps=20)
    logits = twins.backdoored.all_logits(found.images)
    for row, label, margin in zip(logits, (1, TARGET), found.margins.tolist(), strict=True):
        others = row[torch.arange(CLASSES) != label]
        assert float(row[label] - others.max()) == pytest.approx(margin, rel=1e-4)
    assert float(found.images.min()) >= 0
    assert float(found.images.max()) <= 1


def test_a_label_s_margin_does_not_depend_on_the_others_tested(twins):
    both = input_margins(twins.backdoored, [1, 5], run=Run(seed=1), starts=2, steps=10)
    alone = input_margins(twins.backdoored, [5], run=Run(seed=1), starts=2, steps=10)
    assert float(both.margins[1]) == pytest.approx(float(alone.margins[0]), rel=5e-4)


def test_one_output_counts_as_two_classes():
    torch.manual_seed(0)
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), (1, 8, 8))
    assert input_margins(model, [0, 1], run=Run(), starts=2, steps=2).margins.shape == (2,)
