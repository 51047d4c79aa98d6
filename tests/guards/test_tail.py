from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from detrojan.guards.tail import Tail, counted, interval


def _rates(count: int, frr: float, *, smooth: bool) -> torch.Tensor:
    """Return how often exponential scores reach boundaries that were set on so many of them."""
    chance, found = torch.Generator().manual_seed(0), []
    for _ in range(400):
        scores = torch.empty(count, dtype=torch.float64).exponential_(1.0, generator=chance)
        limit = Tail.of(scores).reached_by(frr) if smooth else counted(scores.sort().values, frr)
        found.append(math.exp(-limit))
    return torch.tensor(found)


def test_a_further_score_reaches_the_counted_boundary_as_often_as_asked():
    assert float(_rates(99, 0.05, smooth=False).mean()) == pytest.approx(0.05, abs=0.006)


def test_the_curve_is_right_on_average_and_varies_less_than_counting():
    smooth, bare = _rates(500, 0.01, smooth=True), _rates(500, 0.01, smooth=False)
    assert float(smooth.mean()) == pytest.approx(0.01, abs=0.002)
    assert float(smooth.std()) < 0.92 * float(bare.std())


def test_of_few_scores_the_boundary_is_counted_and_lies_beyond_all():
    assert Tail.of(torch.arange(5.0)).reached_by(0.01) == math.nextafter(4.0, math.inf)
    assert Tail.of(torch.arange(9.0)).reached_by(0.5) == 4


def test_above_a_score_that_many_share_nobody_is_rejected():
    scores = torch.cat([torch.arange(20.0), torch.full((80,), 50.0)])
    assert Tail.of(scores).reached_by(0.05) == math.nextafter(50.0, math.inf)
    assert Tail.of(scores).reached_by(0.9) == pytest.approx(9, abs=1)


def test_scores_that_end_before_the_curve_does_have_a_boundary_that_is_reached():
    scores = torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    by_curve = replace(Tail.of(scores), scores=scores[:0])
    assert by_curve.start + by_curve.slope * math.log(by_curve.share / 0.01) > 1
    limit = Tail.of(scores).reached_by(0.01)
    assert limit == counted(scores.sort().values, 0.01)
    assert 0.98 < limit < 1


@pytest.mark.parametrize(
    ("reached", "low", "high"), [(0, 0.0, 0.006), (5, 0.0039, 0.0209), (10, 0.0109, 0.0337)]
)
def test_the_interval_is_that_of_clopper_and_pearson(reached, low, high):
    assert interval(reached, 500) == pytest.approx((low, high), abs=2e-4)
