from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.store import digest
from detrojan.trainers import unlearning
from detrojan.trainers.abl import ABL
from detrojan.trainers.base import losses
from detrojan.trainers.recovery import ERROR
from detrojan.trainers.unlearning import (
    CLIMB,
    DOUBTFUL_TOLERANCE,
    HOLD,
    TOLERANCE,
    undone,
    unlearning_loss,
)
from margins import shifted
from twins import CLASSES, LARGEST


def test_the_unlearning_loss_has_a_slope_at_certainty_and_none_below_guessing():
    labels = torch.tensor([0, 0, 0])
    logits = torch.tensor([[60.0, 0, 0, 0], [-9.0, 0, 0, 0], [5.0, 0, 0, 0]], requires_grad=True)
    value = unlearning_loss(2, torch.tensor([False, False, True]))(logits, labels, torch.tensor([0, 1, 2]))
    (slope,) = torch.autograd.grad(value, logits)
    assert slope[0, 0] == pytest.approx(0.5 * CLIMB, abs=1e-3)
    assert slope[1].abs().max() == 0
    assert bool(torch.isfinite(slope).all())
    # the third one is kept right, and more so as it carries a label that is unlearned
    alone = unlearning_loss(2, torch.zeros(3, dtype=torch.bool))(logits, labels, torch.tensor([0, 1, 2]))
    (less,) = torch.autograd.grad(alone, logits)
    assert slope[2, 0] == pytest.approx((1 + HOLD) * float(less[2, 0]), rel=1e-4)
    assert less[2, 0] < 0


def test_samples_that_hold_on_to_their_label_are_not_unlearned(suspect):
    # too few steps to unlearn anything: most of the isolated keep their label
    few = {"isolation_epochs": 1, "isolation_updates": 0, "epochs": 2, "isolation_rate": 0.05}
    slow = ABL(**few, **suspect.how, unlearn_epochs=1, unlearn_rate=1e-7)
    last = slow.train(suspect.start(), suspect.clean, run=Run(seed=1)).steps[-1]
    assert last.details["not unlearned"] > 0.75
    assert last.details["undone"] is True
    assert "were not unlearned beside other samples of their labels" in last.summary


def small_normed() -> Classifier:
    """Return a network with batch norms that learns 160 images within a second."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(0))
        blocks = [[nn.Conv2d(a, b, 5, stride=2), nn.BatchNorm2d(b), nn.ReLU()] for a, b in ((3, 8), (8, 16))]
        network = nn.Sequential(*blocks[0], *blocks[1], nn.Flatten(), nn.LazyLinear(CLASSES))
        network(torch.zeros(2, *LARGEST))
    return Classifier(network, LARGEST)


def test_a_network_with_batch_norms_keeps_their_statistics_while_it_unlearns(suspect, monkeypatch):
    data = suspect.clean.select(slice(160))
    few = {"isolation_epochs": 1, "isolation_updates": 0, "epochs": 20, "isolation_rate": 0.1}
    quick = ABL(**few, **suspect.how, unlearn_epochs=0)
    start = small_normed()
    without = quick.train(start, data, run=Run(seed=1))
    more = replace(quick, unlearn_epochs=20)
    # whatever came out is looked at
    monkeypatch.setattr(unlearning, "undone", lambda *_: "")
    monkeypatch.setattr(unlearning, "dear", lambda *_: (0.0, ""))
    made = more.train(start, data, run=Run(seed=1))
    own, other = made.model.network.state_dict(), without.model.network.state_dict()
    means = [name for name in own if name.endswith("running_mean")]
    assert means
    assert all(torch.equal(own[name], other[name]) for name in means)
    assert digest(made.model.network) != digest(without.model.network)
    isolated = data.select(made.isolated)
    # the mean probability of their labels
    after, before = (float((-losses(one.model, isolated)).exp().mean()) for one in (made, without))
    assert after < before


@pytest.mark.parametrize(
    ("share", "lost", "judging", "why"),
    [
        (0.8, 5, 100, ""),
        (0.0, -20, 100, ""),
        (0.0, 0, 0, ""),  # nothing is left to judge by
        (0.81, 0, 100, "81% of them were not unlearned beside other samples of their labels"),
        (0.0, 9, 100, ""),  # as many or more by chance in 6% of all cases
        (0.0, 10, 100, "it cost 10.0 points on other samples of their labels"),  # in 3%
        (0.0, 2, 17, ""),  # 21%
        (0.0, 4, 17, "it cost 23.5 points on other samples of their labels"),  # 1%
    ],
)
def test_an_unlearning_is_undone_where_it_is_dear_or_does_not_work(share, lost, judging, why):
    assert undone(share, lost, judging) == why


def test_less_is_borne_where_the_isolation_is_doubtful():
    assert undone(0.0, 6, 100, DOUBTFUL_TOLERANCE) == "it cost 6.0 points on other samples of their labels"
    assert undone(0.0, 5, 100, DOUBTFUL_TOLERANCE) == undone(0.0, 6, 100) == ""


def test_what_costs_no_more_than_is_borne_is_undone_as_seldom_as_stated():
    draw = torch.Generator().manual_seed(1)
    lost = torch.bernoulli(torch.full((4000, 90), TOLERANCE), generator=draw).sum(1)
    often = sum(bool(undone(0.0, int(count), 90)) for count in lost) / len(lost)
    assert 0 < often < ERROR + 0.01
