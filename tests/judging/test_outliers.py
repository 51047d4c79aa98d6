from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats
from scipy.stats import median_abs_deviation

from detrojan.errors import OptionError
from detrojan.judging.outliers import (
    anomaly_indices,
    combined_p_values,
    deviations_below,
    finite_median,
    high_p_values,
    median,
    rank_p_values,
    size_limit,
    small_p_values,
)
from references import moderated_t_test

norms = st.lists(st.floats(1, 1000, allow_nan=False).map(lambda x: round(x, 2)), min_size=3, max_size=40)


def test_the_median_of_an_even_count_is_the_mean_of_the_middle_two():
    assert median(torch.tensor([4.0, 1.0, 3.0, 2.0])) == 2.5
    assert median(torch.tensor([5, 1, 3])) == 3.0


@settings(max_examples=50, deadline=None, derandomize=True)
@given(norms)
def test_the_index_is_the_distance_in_robust_standard_deviations(values):
    array = np.array(values)
    sigma = median_abs_deviation(array, scale="normal")
    found = anomaly_indices(torch.tensor(values, dtype=torch.float64)).numpy()
    if sigma == 0:
        assert (found == 0).all()
    else:
        # SciPy's constant has more digits than the paper's 1.4826
        np.testing.assert_allclose(found, (np.median(array) - array) / sigma, rtol=1e-4, atol=1e-9)


def test_a_far_smaller_mask_stands_out_and_a_far_larger_one_has_the_other_sign():
    values = torch.tensor([100.0, 104.0, 96.0, 101.0, 99.0, 8.0, 180.0])
    index = anomaly_indices(values)
    assert index.argmax() == 5
    assert index[5] > 2
    assert index[6] < -2
    assert index[:5].abs().max() < 2


def test_the_median_variant_is_the_relative_distance_from_the_median():
    index = anomaly_indices(torch.tensor([100.0, 50.0, 150.0, 100.0, 10.0]), "median")
    assert index.tolist() == pytest.approx([0.0, 0.5, -0.5, 0.0, 0.9])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(norms, st.floats(0.1, 100))
def test_the_unit_of_the_values_does_not_matter(values, factor):
    one = torch.tensor(values, dtype=torch.float64)
    for statistic in ("mad", "median"):
        np.testing.assert_allclose(
            anomaly_indices(one, statistic), anomaly_indices(one * factor, statistic), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("statistic", ["mad", "median"])
def test_values_all_alike_have_no_outlier(statistic):
    assert anomaly_indices(torch.full((6,), 37.5), statistic).tolist() == [0.0] * 6
    assert anomaly_indices(torch.zeros(4), statistic).tolist() == [0.0] * 4


def test_an_unknown_statistic_is_refused():
    with pytest.raises(OptionError, match="expected the statistic mad or median, got 'mean'"):
        anomaly_indices(torch.ones(3), "mean")


def test_the_p_value_is_that_of_a_t_test_for_one_more_observation():
    from detrojan.judging.outliers import size_p_values  # noqa: PLC0415

    sizes = torch.tensor([5.0, 40.0, 55.0, 60.0, 80.0, 47.0])
    controls = sizes > 20
    logs = sizes.double().log()
    usual = logs[1:]
    score = (logs[0] - usual.mean()) / (usual.std() * (1 + 1 / 5) ** 0.5)
    expected = 6 * stats.t.cdf(float(score), 4)
    found = size_p_values(sizes, controls)
    assert float(found[0]) == pytest.approx(expected)
    assert expected < 0.05
    assert float(found[1:].min()) > 0.5


def test_without_enough_controls_nothing_is_significant():
    from detrojan.judging.outliers import size_p_values  # noqa: PLC0415

    assert (
        size_p_values(torch.tensor([1.0, 50.0, 60.0]), torch.tensor([False, True, True])).tolist() == [1] * 3
    )


def test_a_size_at_the_limit_has_the_p_value_asked_for():
    usual = torch.tensor([90.0, 120.0, 100.0, 150.0, 80.0, 3000.0, math.inf])
    limit = size_limit(usual, 0.01)
    assert 0 < limit < 80
    sizes = torch.cat([usual, torch.tensor([limit])])
    chances = small_p_values(sizes, torch.tensor([True] * 7 + [False]))
    assert float(chances[-1]) == pytest.approx(0.01, rel=1e-3)
    assert size_limit(torch.tensor([90.0, math.inf, math.inf, 3.0]), 0.01) == 0


@pytest.mark.parametrize(
    "usual", [[90, 110, 101], [60, 75, 100, 88, 140, 120], [100.0 + k for k in range(24)]]
)
@pytest.mark.parametrize("size", [4.0, 40.0, 95.0, 300.0])
def test_the_p_value_is_that_of_a_moderated_t_test(usual, size):
    sizes = torch.tensor([size, *usual], dtype=torch.float64)
    found = small_p_values(sizes, torch.tensor([False] + [True] * len(usual)))
    assert float(found[0]) == pytest.approx(moderated_t_test(size, usual), rel=1e-9)


def test_a_usual_size_is_left_out_of_its_own_test():
    usual = [60.0, 75.0, 100.0, 88.0, 140.0, 120.0]
    found = small_p_values(torch.tensor(usual, dtype=torch.float64), torch.ones(6, dtype=torch.bool))
    expected = [moderated_t_test(usual[k], usual[:k] + usual[k + 1 :]) for k in range(6)]
    # the largest one is brought down where it is among the others
    assert found.tolist() == pytest.approx(expected, rel=0.2)
    assert float(found[4]) == pytest.approx(expected[4], rel=1e-9)


@pytest.mark.parametrize("usual", [4, 10])
def test_the_p_value_of_a_usual_label_is_as_often_small_as_it_says(usual):
    """Networks differ in their spread, as the prior has it: a scaled inverse chi-square of 6 observations."""
    random = np.random.default_rng(7)
    hits = {0.2: 0, 0.05: 0}
    rounds = 1000
    for _ in range(rounds):
        spread = math.sqrt(6 * 0.3**2 / random.chisquare(6))
        sizes = torch.from_numpy(np.exp(4 + spread * random.normal(size=usual + 1)))
        chance = float(small_p_values(sizes, torch.tensor([False] + [True] * usual))[0])
        for level in hits:
            hits[level] += chance < level
    for level, count in hits.items():
        # bringing large sizes down costs a little; three standard deviations of a count are allowed beside it
        noise = 3 * math.sqrt(level * (1 - level) / rounds)
        assert level - noise < count / rounds < 1.25 * level + noise, level


def test_giants_do_not_hide_a_small_size():
    usual = [100.0, 110.0, 95.0, 120.0, 105.0, 90.0, 115.0]
    plain = small_p_values(torch.tensor([20.0, *usual]), torch.tensor([False] + [True] * 7))
    giants = small_p_values(
        torch.tensor([20.0, *usual, 3000.0, math.inf]), torch.tensor([False] + [True] * 9)
    )
    assert float(plain[0]) < 1e-4
    assert float(giants[0]) < 3e-4


def test_deviations_below_the_median():
    usual = torch.tensor([90.0, 100.0, 110.0, 100.0, math.inf])
    assert deviations_below(100.0, usual) == 0
    assert deviations_below(200.0, usual) == 0
    assert deviations_below(math.inf, usual) == 0
    assert deviations_below(30.0, usual) > deviations_below(60.0, usual) > 5


def test_ranks_in_several_scores_count_together():
    random = torch.Generator().manual_seed(0)
    scores = [torch.randn(1000, generator=random) for _ in range(3)]
    for part in scores:
        part[7] = 100.0
    chances = rank_p_values(scores)
    assert int(chances.argmin()) == 7
    assert float(chances[7]) < 1e-6
    others = torch.cat([chances[:7], chances[8:]])
    assert float((others < 0.05).double().mean()) == pytest.approx(0.05, abs=0.02)


def test_ranks_are_combined_as_strube_has_it():
    random = np.random.default_rng(3)
    first = random.normal(size=60)
    second = 0.6 * first + random.normal(size=60)
    normal = [stats.norm.ppf((stats.rankdata(part) - 0.5) / 60) for part in (first, second)]
    likeness = np.corrcoef(normal[0], normal[1])[0, 1]
    expected = stats.norm.sf((normal[0] + normal[1]) / math.sqrt(2 + 2 * likeness))
    found = rank_p_values([torch.from_numpy(first), torch.from_numpy(second)])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_independent_p_values_are_combined_as_scipy_does():
    pairs = [(0.5, 0.5), (0.01, 0.2), (1e-6, 0.9), (0.03, 0.04)]
    first, second = (torch.tensor(part, dtype=torch.float64) for part in zip(*pairs, strict=True))
    expected = [stats.combine_pvalues(pair, method="stouffer").pvalue for pair in pairs]
    assert combined_p_values(first, second, 0.0).tolist() == pytest.approx(expected, rel=1e-9)


def test_ranks_that_say_the_same_count_once():
    score = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(rank_p_values([score, score]), rank_p_values([score]), rtol=1e-6)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_combined_p_values_of_normal_scores_are_uniform(correlation):
    random = torch.Generator().manual_seed(2)
    first = torch.randn(20000, generator=random, dtype=torch.float64)
    second = correlation * first + (1 - correlation**2) ** 0.5 * torch.randn(
        20000, generator=random, dtype=torch.float64
    )
    parts = [torch.from_numpy(stats.norm.sf(part.numpy())) for part in (first, second)]
    chances = combined_p_values(*parts, correlation)
    for level in (0.01, 0.1, 0.5):
        assert float((chances < level).double().mean()) == pytest.approx(level, rel=0.15)


def test_the_median_of_finite_values_leaves_out_what_never_worked():
    assert finite_median(torch.tensor([3.0, math.inf, 1.0])) == 2.0
    assert finite_median(torch.tensor([math.inf])) == math.inf


def test_the_p_value_of_a_high_score_is_that_of_a_moderated_t_test():
    scores = torch.tensor([0.1, -0.2, 0.3, 0.0, 1.2, -0.1], dtype=torch.float64)
    others = np.delete(scores.numpy(), 4)
    variance = (4 * others.var(ddof=1) + 6 * 0.15**2) / 10
    score = (1.2 - others.mean()) / np.sqrt(variance * 1.2)
    none = torch.zeros(6)
    found = high_p_values(scores, 0.15, none)
    assert found[4] == pytest.approx(stats.t.sf(score, 10), rel=1e-6)
    assert int(found.argmin()) == 4
    for_a_reason = high_p_values(scores, 0.15, none.index_fill(0, torch.tensor([4]), 0.5))
    score *= np.sqrt(variance * 1.2 / (variance * 1.2 + 0.25))
    assert for_a_reason[4] == pytest.approx(stats.t.sf(score, 10), rel=1e-6)
    assert torch.equal(for_a_reason[:4], found[:4])
    assert high_p_values(scores[:3], 0.15, none).tolist() == [1.0, 1.0, 1.0]
