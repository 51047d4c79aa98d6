from __future__ import annotations

import math
import time

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.judging.affording import LEAST_ANSWERS, LEAST_PARTS, LEAST_TRIALS, afforded
from detrojan.judging.preparing import prepare
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: answers a second of the network below
RATE = 20.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a network answers."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def slow(clock):
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 5)

        def forward(self, images):
            clock[0] += len(images) / RATE
            return self.head(images.flatten(1))

    torch.manual_seed(0)
    model = Classifier(Slow(), (1, 4, 4))
    clock[0] = 100.0
    return model


@pytest.fixture
def data():
    random = torch.Generator().manual_seed(1)
    return Dataset(torch.rand(600, 1, 4, 4, generator=random), torch.arange(600) % 5)


def test_without_a_limit_nothing_is_measured_and_all_is_affordable(slow, data, clock):
    found = afforded(slow, data, math.inf)
    assert (found.answers, found.trials, found.parts) == (math.inf,) * 3
    assert clock[0] == 100.0


def test_what_fits_into_the_time_is_a_share_of_it(slow, data, clock):
    found = afforded(slow, data, clock[0] + 1000.0)
    assert found.rate == pytest.approx(RATE)
    assert 800 < found.answers < 1600
    assert found.trials < found.answers
    hardly = afforded(slow, data, clock[0] + 1.0)
    assert (hardly.answers, hardly.trials, hardly.parts) == (LEAST_ANSWERS, LEAST_TRIALS, LEAST_PARTS)


@pytest.mark.parametrize("seconds", [20.0, 120.0, 300.0])
def test_a_preparation_takes_a_small_part_of_the_time_and_says_what_it_left_out(slow, data, clock, seconds):
    begun = clock[0]
    ready = prepare(slow, data, None, 600, Run(), until=begun + seconds)
    assert clock[0] - begun < max(0.15 * seconds, 6.0)
    assert len(ready.images) == (LEAST_ANSWERS if seconds == 20 else int(ready.afforded.answers))
    assert f"the time was too short for 600 images: {len(ready.images)} were used" in " ".join(ready.warnings)
    assert ("the time was too short to try" in " ".join(ready.warnings)) == bool(ready.check.untried)
    assert len(ready.check.trials) == 1 or ready.check.untried == 0


def test_with_time_enough_it_is_prepared_as_without_a_limit(slow, data, clock):
    free = prepare(slow, data, None, 600, Run())
    timed = prepare(slow, data, None, 600, Run(), until=clock[0] + 1e6)
    assert torch.equal(free.images, timed.images)
    assert free.warnings == timed.warnings
    assert len(free.check.trials) == len(timed.check.trials) > 1
