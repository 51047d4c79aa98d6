from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from detrojan.judging.extremes import detectable, high_p_values

USUAL = [50.0, 53.0, 47.0, 51.0, 49.0, 52.0, 48.0, 50.5, 49.5]


def test_the_p_value_is_that_of_student_s_t_corrected_for_all_labels():
    chances = high_p_values(torch.tensor([*USUAL, 62.0]))
    usual = np.array(USUAL)
    t = (62.0 - usual.mean()) / (usual.std(ddof=1) * math.sqrt(1 + 1 / 9))
    assert float(chances[9]) == pytest.approx(1 - (1 - stats.t.sf(t, 8)) ** 10, rel=1e-5)
    assert chances[:9].tolist() == [1.0] * 9


def test_a_second_target_does_not_hide_the_first():
    alone = high_p_values(torch.tensor([*USUAL, 75.0]))
    both = high_p_values(torch.tensor([*USUAL, 75.0, 78.0]))
    assert alone[9] < 0.001
    assert both[9:].max() < 0.001
    hidden = stats.t.sf((78 - np.mean([*USUAL, 75])) / np.std([*USUAL, 75], ddof=1), 9) * 11
    assert hidden > 0.05, "tested against all others it would be hidden"


def test_a_natural_outlier_far_from_the_target_is_not_flagged_with_it():
    chances = high_p_values(torch.tensor([*USUAL, 62.0, 90.0]))
    assert chances[10] < 0.05
    assert chances[9] == 1.0


@pytest.mark.parametrize("family", ["normal", "gamma"])
@pytest.mark.parametrize("labels", [8, 10, 43, 200])
def test_the_error_rate_is_that_which_is_stated(family, labels):
    random = np.random.default_rng(5)
    draws = random.gamma(9, 5, (400, labels)) if family == "gamma" else random.normal(60, 9, (400, labels))
    wrong = sum(float(high_p_values(torch.tensor(row), family).min()) < 0.05 for row in draws)
    assert wrong / 400 < 0.09, "5%, and what 400 draws leave open"


@pytest.mark.parametrize("family", ["normal", "gamma"])
def test_a_score_is_significant_from_the_stated_one_on(family):
    usual = torch.tensor(USUAL)
    needed = detectable(usual, 0.01, family)
    below, above = (
        float(high_p_values(torch.cat([usual, torch.tensor([needed * factor])]), family)[-1])
        for factor in (0.999, 1.001)
    )
    assert above < 0.01 < below


def test_a_label_that_nothing_leads_to_does_not_widen_the_usual():
    assert high_p_values(torch.tensor([*USUAL, 0.01, 70.0]))[10] < 0.01


def test_few_labels_and_equal_scores_have_no_outlier():
    assert high_p_values(torch.tensor([1.0, 2.0, 1.0, 900.0])).tolist() == [1.0] * 4
    assert high_p_values(torch.full((9,), 3.0)).tolist() == [1.0] * 9
    assert detectable(torch.tensor([1.0, 2.0, 3.0]), 0.05) == math.inf
