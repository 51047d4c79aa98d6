"""A limit of time holds on a slow machine: here the clock moves with the answers alone."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.judging import middle
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans import weighed
from detrojan.scans.cascade import Cascade
from detrojan.search import asking, pace

SIDE, CLASSES = 48, 10
#: seconds of one answer to a whole image; a pass forward and backward takes three times as long
ANSWER = 0.05


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def _smaller(monkeypatch):
    """Take images of 48 pixels for large ones, and measure the pace as ever."""
    for module in (middle, weighed):
        monkeypatch.setattr(module, "LARGE", 32)
    monkeypatch.setattr(middle, "SIDES", (24, 32))
    monkeypatch.setattr(asking, "find_pace", pace.find_pace)


@pytest.fixture
def model(clock):
    class Slow(nn.Module):
        """Answers by the mean brightness, slowly."""

        def __init__(self, classes: int) -> None:
            super().__init__()
            self.centres = nn.Parameter((torch.arange(classes) + 0.5) / classes)

        def forward(self, images):
            share = images.shape[-1] * images.shape[-2] / SIDE**2
            clock[0] += ANSWER * len(images) * share * (3 if images.requires_grad else 1)
            return -100 * (images.mean((1, 2, 3))[:, None] - self.centres) ** 2

    return lambda classes=CLASSES: Classifier(Slow(classes), (1, SIDE, SIDE))


@pytest.fixture
def data():
    random = torch.Generator().manual_seed(3)
    levels = torch.linspace(0.02, 0.98, 400)[:, None, None, None]
    noise = 0.02 * torch.randn(400, 1, SIDE, SIDE, generator=random)
    return Dataset((levels + noise).clamp(0, 1), None)


@pytest.mark.parametrize(("budget", "parts"), [(30.0, True), (120.0, True), (400.0, False)])
def test_a_scan_ends_in_time_and_says_what_it_left_out(model, data, clock, budget, parts):
    slow = model()
    begun = clock[0]
    result = Cascade(budget=budget, parts=parts).scan(slow, data, run=Run())
    assert 0.5 * budget < clock[0] - begun <= budget
    assert result.verdict == "inconclusive"
    assert "the time was up before the end of" in result.reason
    assert sorted(result.details["ranking"]) == list(range(CLASSES))
    assert "to save time, each update of a trigger used 8 images, not 16" in result.warnings


def test_many_labels_are_ranked_in_time(model, data, clock):
    slow = model(120)
    begun = clock[0]
    result = Cascade(budget=300.0).scan(slow, data, run=Run())
    assert clock[0] - begun <= 300.0
    assert sorted(set(result.details["ranking"])) == sorted(result.details["ranking"])
    assert len(result.details["ranking"]) == 50
    assert result.details["images_per_update"] == 8
    assert "most suspicious so far are" in result.reason
