"""A reference network begins with new weights, and learns what the network answers to clean images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.learning.anew import relearnt, started_anew
from detrojan.models.classifier import Classifier
from detrojan.run import Run


class Scaled(nn.Module):
    """A layer that does not know how it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.arange(12.0))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * self.factors


def model() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(nn.Sequential(nn.Flatten(), Scaled(), nn.Linear(12, 2)), (3, 2, 2))


def test_it_begins_with_new_weights_and_leaves_the_network_alone():
    first = model()
    before = first.fingerprint
    new = started_anew(first, Run(seed=1))
    assert first.fingerprint == before
    assert not torch.equal(new.network[2].weight, first.network[2].weight)
    assert not torch.equal(new.network[1].factors, first.network[1].factors)
    assert sorted(new.network[1].factors.tolist()) == list(range(12)), "shuffled: their scale stays"
    assert started_anew(first, Run(seed=1)).fingerprint == new.fingerprint
    assert started_anew(first, Run(seed=2)).fingerprint != new.fingerprint


def test_a_network_without_weights_is_refused():
    plain = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 2, 2))
    with pytest.raises(
        ModelError, match="expected a network with weights that can be trained, got one without"
    ):
        started_anew(plain, Run())


def test_it_learns_what_the_network_answers():
    first = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), (3, 8, 8))
    chance = torch.Generator().manual_seed(0)
    images = torch.rand(200, 3, 8, 8, generator=chance) * 0.4
    images[::2, :, :, :4] += 0.5
    images[1::2, :, :, 4:] += 0.5
    with torch.no_grad():
        first.network[1].weight.copy_(
            torch.tensor([1.0] * 4 + [-1.0] * 4).repeat(24) * torch.tensor([[1], [-1]])
        )
    seen, unseen = images[:120], images[120:]
    new = relearnt(first, seen, updates=60, run=Run(seed=1))
    assert float((new.answers(unseen) == first.answers(unseen)).float().mean()) > 0.9
