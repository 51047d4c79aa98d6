from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.guards.base import is_finite
from detrojan.guards.strip import Strip
from detrojan.run import Run
from twins import few_signs


@pytest.fixture(scope="module")
def made(twins):
    return Strip(copies=10).calibrate(twins.backdoored, few_signs(60, 11), run=Run(seed=1))


def test_a_score_at_the_threshold_or_without_a_number_is_suspicious(made):
    steps = torch.tensor([0.0, -1.0, 1.0, float("nan"), float("inf"), -float("inf")], dtype=torch.float64)
    assert made.suspicious(made.threshold + steps).tolist() == [True, False, True, True, True, True]


def test_what_is_suspicious_is_answered_with_one_more_class(twins, made):
    images = twins.test.images[:30]
    answers, caught = made.answers_with_class(images), made.suspicious(made.score(images))
    assert torch.equal(answers == twins.backdoored.num_classes, caught)
    assert torch.equal(answers[~caught], twins.backdoored.answers(images)[~caught])


def test_the_rate_that_clean_images_support_narrows_with_their_number(made):
    rows = [torch.cat([torch.zeros(n), -torch.ones(99 * n)]).double() for n in (5, 50)]
    few, many = (replace(made, threshold=0.0, clean_scores=scores) for scores in rows)
    assert few.supported()[0] < many.supported()[0] < 0.01 < many.supported()[1] < few.supported()[1]
    none = replace(few, clean_scores=-torch.ones(500, dtype=torch.float64))
    # 0.05 is the chance that none of 500 reaches a boundary that a share of this size reaches
    assert none.supported() == (0, pytest.approx(1 - 0.05 ** (1 / 500), rel=1e-6))


@pytest.mark.parametrize(
    ("value", "finite"),
    [(1, True), (0.5, True), (True, False), ("1", False), (10**400, False), (None, False)],
)
def test_only_numbers_that_a_float_holds_are_finite(value, finite):
    assert is_finite(value) is finite
