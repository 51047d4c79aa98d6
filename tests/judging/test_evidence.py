from __future__ import annotations

import math
import statistics

import pytest
import torch

from detrojan.judging.evidence import detectable, weigh
from detrojan.search.jobs import Job
from detrojan.search.plan import Found
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger
from references import moderated_t_test, stouffer

PATCH = [20.0, 95.0, 110.0, 100.0, 120.0, 90.0, 105.0, 115.0]
ADDITIVE = [1.1, 3.8, 4.4, 4.0, 4.9, 3.5, 4.2, 4.6]
#: three statistics that go together count as so many tests; so closely go the forms together, and the probes
EFFECTIVE, FORMS, PROBES = 1.5, 0.8, 0.55


def job(label: int, start: int = 0) -> Job:
    return Job(Aim(target=label), start)


def found(sizes: list[float], *, start: int = 0) -> dict[Job, Found]:
    trigger = PatchTrigger(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
    return {
        job(label, start): Found(job=job(label, start), trigger=trigger, size=size, steps=1)
        for label, size in enumerate(sizes)
    }


def both(patch: list[float], additive: list[float]) -> dict[str, dict[Job, Found]]:
    return {"patch": found(patch), "additive": found(additive)}


def least(patch: list[float], additive: list[float], place: int, usual: list[int]) -> float:
    """The smallest of the three p-values of one label, for so many effective tests."""
    others = [k for k in usual if k != place]
    alone = [moderated_t_test(sizes[place], [sizes[k] for k in others]) for sizes in (patch, additive)]
    return min(1.0, EFFECTIVE * min(*alone, stouffer(*alone, FORMS)))


def test_the_p_value_is_that_of_the_strongest_statistic_for_all_labels_looked_at():
    evidence = weigh(both(PATCH, ADDITIVE), controls=None, ratio=0.4, looks=8)
    usual = list(range(1, 8))
    assert evidence[0].job == job(0)
    assert evidence[0].p_value == pytest.approx(8 * least(PATCH, ADDITIVE, 0, usual), rel=1e-4)
    assert [entry.p_value for entry in evidence] == sorted(entry.p_value for entry in evidence)
    for entry in evidence[1:]:
        place = entry.job.target
        assert entry.p_value == pytest.approx(min(1, 8 * least(PATCH, ADDITIVE, place, usual)), rel=0.3)


def test_looks_that_were_not_searched_count_too():
    few, many = (
        weigh(both(PATCH, ADDITIVE), controls=None, ratio=0.4, looks=looks)[0].p_value for looks in (8, 80)
    )
    assert many == pytest.approx(10 * few, rel=1e-9)


def test_controls_alone_show_what_is_usual():
    controls = [job(label) for label in (3, 4, 5, 6, 7)]
    first = weigh(both(PATCH, ADDITIVE), controls=controls, ratio=0.4, looks=8)[0]
    assert first.p_value == pytest.approx(8 * least(PATCH, ADDITIVE, 0, [3, 4, 5, 6, 7]), rel=1e-4)


def test_a_small_control_does_not_show_what_is_usual():
    patch, additive = [*PATCH[:7], 22.0], [*ADDITIVE[:7], 1.2]
    controls = [job(label) for label in range(1, 8)]
    first = weigh(both(patch, additive), controls=controls, ratio=0.4, looks=8)
    by_label = {entry.job.target: entry for entry in first}
    assert by_label[0].p_value == pytest.approx(8 * least(patch, additive, 0, list(range(1, 7))), rel=1e-4)
    assert by_label[7].p_value < 0.01


def test_probes_are_combined_with_the_sizes():
    plain = weigh(both(PATCH, ADDITIVE), controls=None, ratio=0.4, looks=1)[0].p_value
    helped, hurt = (
        weigh(both(PATCH, ADDITIVE), controls=None, ratio=0.4, looks=1, probes={0: chance})[0].p_value
        for chance in (1e-4, 0.9)
    )
    assert helped == pytest.approx(stouffer(plain, 1e-4, PROBES), rel=1e-4)
    assert hurt == pytest.approx(stouffer(plain, 0.9, PROBES), rel=1e-4)
    assert helped < plain < hurt


def test_of_several_starts_the_smallest_counts_and_a_label_in_one_form_only_does_not():
    several = both(PATCH, ADDITIVE)
    several["patch"] |= found([math.inf, 15.0], start=1)
    del several["additive"][job(7)]
    evidence = {entry.job.target: entry for entry in weigh(several, controls=None, ratio=0.4, looks=8)}
    assert sorted(evidence) == list(range(7))
    assert evidence[0].sizes["patch"] == 20.0
    assert evidence[1].sizes["patch"] == 15.0
    assert evidence[1].found["patch"].job.start == 1
    assert evidence[0].sizes["both"] == pytest.approx(math.sqrt(20.0 * 1.1))


def test_ratios_are_shares_of_the_usual_median():
    first = weigh(both(PATCH, ADDITIVE), controls=None, ratio=0.4, looks=8)[0]
    assert first.ratios["patch"] == pytest.approx(20 / statistics.median(PATCH[1:]))
    assert first.ratio == first.ratios[first.by]
    assert first.index > 5
    assert weigh({"patch": {}, "additive": {}}, controls=None, ratio=0.4, looks=0) == []


def test_what_would_have_been_found_is_no_larger_than_the_ratio_allows():
    evidence = weigh(both(PATCH, ADDITIVE), controls=None, ratio=0.4, looks=8)
    controls = [job(label) for label in range(1, 8)]
    reach = detectable(evidence, controls, ratio=0.4, significance=0.9)
    assert reach["patch"] == pytest.approx(0.4 * statistics.median(PATCH[1:]))
    strict = detectable(evidence, controls, ratio=0.9, significance=1e-4)
    at_limit = moderated_t_test(strict["additive"], ADDITIVE[1:])
    assert at_limit == pytest.approx(1e-4, rel=1e-3)
