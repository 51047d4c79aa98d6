"""The constants of the default scan cannot be changed in passing, and each says what set it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from typing import get_args

import numpy as np
import pytest

from detrojan.judging.policy import POLICY, Policy, SetBy


def test_each_constant_says_what_it_is_and_what_set_it():
    described = re.findall(r"^    (\w+): ", inspect.cleandoc(Policy.__doc__), re.MULTILINE)
    names = [field.name for field in dataclasses.fields(Policy)]
    assert sorted(described) == sorted(names)
    reasons = Policy.reasons()
    assert list(reasons) == names
    assert {by for by, _ in reasons.values()} <= set(get_args(SetBy))
    assert all(why for _, why in reasons.values())


def test_the_constants_are_frozen_and_go_into_a_report():
    with pytest.raises(dataclasses.FrozenInstanceError):
        POLICY.effective = 2.0
    facts = json.loads(json.dumps(POLICY.facts()))
    assert facts["effective"] == POLICY.effective
    assert facts["turns"] == list(POLICY.turns)


def test_the_three_statistics_count_as_galwey_says():
    """The eigenvalues of the correlations that the reason names."""
    form, both = POLICY.forms_correlation, 0.95
    values = np.linalg.eigvalsh([[1, form, both], [form, 1, both], [both, both, 1]]).clip(0)
    assert np.sqrt(values).sum() ** 2 / values.sum() == pytest.approx(POLICY.effective, abs=0.01)
