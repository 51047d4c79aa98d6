from __future__ import annotations

import pytest

from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.scans.expected import (
    HASTY_PROBES,
    LEAST_CANDIDATES,
    LEAST_CONTROLS,
    PROBES,
    announced,
    expected,
    windows_cost,
    within,
)

METHOD = Cascade()


def test_the_windows_cost_is_what_they_spend():
    assert windows_cost(4) == 16 * 16 + 4 * 64
    assert windows_cost(3) == 9 * 16 + 2 * 64


def test_a_decided_scan_of_few_labels_is_expected_as_it_comes(twins):
    result = Cascade(samples=300).scan(twins.backdoored, twins.test, run=Run(seed=1))
    assert result.verdict == "backdoored"
    said = result.details["expected_passes"]
    assert result.details["passes_per_second"] >= 0
    assert said["if decided"] * 0.95 <= result.passes <= said["if silent"]


def test_many_labels_cost_as_many_as_are_searched_and_a_look_at_all():
    few = expected(METHOD, 100, 100, few=False, ranked=True)
    many = expected(METHOD, 1000, 1000, few=False, ranked=True)
    assert few.labels == many.labels == METHOD.candidates + METHOD.controls
    assert 15 * 900 < many.decided - few.decided < 40 * 900
    assert many.decided < many.silent, "half of the controls may do"
    assert many.seconds(100.0) == (many.decided / 100, many.silent / 100)


def test_fewer_labels_are_expected_where_time_allows_fewer():
    meant = expected(METHOD, 1000, 1000, few=False, ranked=True)
    fewer = expected(METHOD, 1000, 1000, few=False, ranked=True, compared=(4, 8))
    assert fewer.labels == 12
    assert fewer.each == meant.each
    assert fewer.silent < meant.silent - 20 * meant.each
    assert fewer.decided == fewer.silent, "of eight controls none is spared"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((60, 90, 0), "scan, about 1 min 0 s, 1 min 30 s if nothing is found"),
        ((60, 60, 0), "scan, about 1 min 0 s"),
        ((60, 90, 80), "scan, about 1 min 0 s, 1 min 30 s if nothing is found, at most 1 min 20 s"),
        ((60, 60, 30), "scan, 30 s of the 1 min 0 s that it would take"),
    ],
)
def test_what_is_announced_fits_the_limit(seconds, said):
    assert announced(*seconds).replace("\u00a0", " ") == said


def test_silence_costs_more_where_pairs_are_looked_at():
    ten = expected(METHOD, 10, 10, few=True, ranked=False)
    some = expected(METHOD, 5, 10, few=True, ranked=False)
    assert ten.silent > 2 * ten.decided
    assert some.silent < ten.silent


@pytest.mark.parametrize(
    ("passes", "wanted"),
    [
        (1e9, (12, 24)),
        (100_000, None),
        (0, (LEAST_CANDIDATES, LEAST_CONTROLS)),
    ],
)
def test_what_is_searched_fits_into_the_time(passes, wanted):
    candidates, controls = within(METHOD, 1000, passes)
    if wanted is not None:
        assert (candidates, controls) == wanted
        return
    each = expected(METHOD, 1000, 1000, few=False, ranked=True).each
    assert LEAST_CANDIDATES < candidates < 12
    assert LEAST_CONTROLS < controls < 24
    assert (candidates + controls) * each < passes


def test_where_time_is_short_each_update_has_fewer_images_and_the_probes_too():
    hasty = METHOD.hasty()
    assert hasty.batch_size == METHOD.batch_size // 2
    more = within(hasty, 1000, 40_000, HASTY_PROBES)
    assert sum(more) > sum(within(METHOD, 1000, 40_000))
    assert HASTY_PROBES < PROBES / 2
    meant, quick = (expected(method, 10, 10, few=True, ranked=False) for method in (METHOD, hasty))
    assert quick.decided == meant.decided / 2


def test_a_scan_that_ends_early_ranks_the_labels(twins):
    result = Cascade(samples=300, budget=0.01).scan(twins.backdoored, twins.test, run=Run(seed=1))
    assert result.verdict == "inconclusive"
    assert "the time was up" in result.reason
    assert sorted(result.details["ranking"]) == list(range(twins.clean.num_classes))
