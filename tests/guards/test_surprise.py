from __future__ import annotations

import math

import pytest
import torch

from detrojan.guards.surprise import Surprise


def test_it_counts_where_there_are_scores_and_follows_the_tail_beyond():
    chance = torch.Generator().manual_seed(0)
    clean = torch.empty(4000, dtype=torch.float64).exponential_(2.0, generator=chance)
    found = Surprise.of(clean)(torch.tensor([0.0, math.log(2) / 2, 1.5, 4.0], dtype=torch.float64))
    # of an exponential distribution it is the score times the rate
    assert found.tolist() == pytest.approx([0, math.log(2), 3, 8], rel=0.1, abs=0.01)


def test_higher_scores_are_never_less_surprising_and_no_number_stays_none():
    clean = torch.randn(50, generator=torch.Generator().manual_seed(1))
    found = Surprise.of(clean)(torch.linspace(-4, 9, 200))
    assert bool((found.diff() >= -1e-12).all())
    assert bool(Surprise.of(clean)(torch.tensor([math.nan])).isnan())


def test_equal_scores_make_no_zero_division():
    assert bool(Surprise.of(torch.ones(20))(torch.tensor([0.0, 1.0, 2.0])).isfinite().all())
