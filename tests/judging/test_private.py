"""A label stands out whose trigger need not be larger to leave the reference alone."""

from __future__ import annotations

import json
import math

import pytest
import torch
from scipy import stats

from detrojan.judging.policy import POLICY
from detrojan.judging.private import weigh_private
from detrojan.search.jobs import Job
from detrojan.search.plan import Found
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger

TRIGGER = PatchTrigger(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))


def sizes(**by_form: list[float]) -> dict[str, dict[int, Found]]:
    return {
        form: {
            label: Found(job=Job(Aim(target=label)), trigger=TRIGGER, size=size, steps=1)
            for label, size in enumerate(values)
        }
        for form, values in by_form.items()
    }


def test_a_trigger_that_the_reference_does_not_know_stands_out():
    own = sizes(patch=[3.0, 9.0], additive=[1.0, 2.0])
    alone = sizes(patch=[3.2, 25.0], additive=[1.05, 5.0])
    first, second = weigh_private(own, alone, 2)
    assert (first.label, second.label) == (0, 1)
    assert first.p_value < 0.01
    assert second.p_value > 0.3
    assert first.ratio == pytest.approx(1.05, abs=0.03)
    json.dumps(first.facts(), allow_nan=False)


def test_the_p_value_is_that_of_a_t_test_times_the_looks():
    own, alone = sizes(patch=[4.0], additive=[1.0]), sizes(patch=[4.8], additive=[math.inf])
    (entry,) = weigh_private(own, alone, 3)
    usual, spread = POLICY.private_patch
    chance = stats.t.cdf((math.log(4.8 / 4) - usual) / spread, POLICY.private_freedom)
    assert entry.by == "patch"
    assert entry.p_value == pytest.approx(float(chance) * POLICY.effective * 3, rel=1e-6)


@pytest.mark.parametrize(("own", "alone"), [(math.inf, math.inf), (4.0, math.inf), (math.inf, 4.0)])
def test_a_size_that_nothing_reached_is_no_evidence(own, alone):
    (entry,) = weigh_private(sizes(patch=[own], additive=[own]), sizes(patch=[alone], additive=[alone]), 1)
    assert entry.p_value == 1.0
    assert entry.facts()["ratio"] is None
    json.dumps(entry.facts(), allow_nan=False)
