from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError
from detrojan.metrics.detection import auroc, detection, false_acceptance_rate, false_rejection_rate

CLEAN = torch.tensor([0.1, 0.2, 0.3, 0.4])
BAD = torch.tensor([0.3, 0.9, 0.8])


def test_rates_count_what_lies_on_the_threshold_as_called_bad():
    assert false_rejection_rate(CLEAN, 0.4) == 0.25
    assert false_acceptance_rate(BAD, 0.8) == pytest.approx(1 / 3)
    assert false_rejection_rate(CLEAN, 0.5) == 0


def test_a_score_on_the_threshold_is_rejected_and_not_accepted():
    # thirds and tenths differ between single and double precision; these do not
    scores = torch.tensor([0.25, 0.5, 0.5, 0.75])
    assert false_rejection_rate(scores, 0.5) == 0.75
    assert false_acceptance_rate(scores, 0.5) == 0.25
    found = detection(scores, scores, 0.5)
    assert found.frr + found.far == 1


def test_the_area_counts_pairs_and_ties_half():
    pairs = [(b > c) + 0.5 * (b == c) for b in BAD.tolist() for c in CLEAN.tolist()]
    assert auroc(CLEAN, BAD) == pytest.approx(sum(pairs) / 12)
    assert auroc(CLEAN, CLEAN) == 0.5
    assert auroc(BAD, CLEAN - 1) == 0


def test_the_area_of_many_scores_is_that_of_every_pair_counted():
    chance = torch.Generator().manual_seed(0)
    clean = torch.randint(20, (300,), generator=chance) / 7
    bad = torch.randint(5, 25, (200,), generator=chance) / 7
    pairs = (bad[:, None] > clean).double() + 0.5 * (bad[:, None] == clean).double()
    assert auroc(clean, bad) == pytest.approx(float(pairs.mean()))


def test_all_figures_come_together():
    found = detection(CLEAN, BAD, 0.35)
    assert (found.frr, found.far, found.clean, found.bad) == (0.25, pytest.approx(1 / 3), 4, 3)


def test_what_is_no_score_is_refused():
    with pytest.raises(DataError, match=r"one score per clean input, got shape \(0,\)"):
        auroc(torch.zeros(0), BAD)


def test_a_score_that_is_no_finite_number_is_called_bad():
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.1])
    assert false_acceptance_rate(odd, 0.5) == 0.25
    assert false_rejection_rate(odd, 0.5) == 0.75
    assert auroc(CLEAN, odd) == pytest.approx((3 + 0.125) / 4)
    found = detection(CLEAN, odd[:3], 0.5)
    assert (found.far, found.frr, found.auroc) == (0, 0, 1)
