"""One place writes the findings and the verdicts: what goes before what, and how it reads."""

from __future__ import annotations

import math

import pytest

from detrojan.findings import L2, PIXELS
from detrojan.judging.verdict import SMALL, Case, finding, high, labels_tested
from detrojan.triggers.aim import Aim

ALL = {
    "looked": "9 labels tested",
    "doubtful": True,
    "unfinished": "the time was up",
    "too_few": "12 or more are needed",
    "targets": [],
    "sign": SMALL,
    "other": "one small trigger moves every label",
    "chance": 0.00123,
    "doubt": "nothing worked",
    "limits": ["9 pixels would have been one", "pairs were not looked for"],
}
#: what is taken away, one after the other, and the verdict that then comes to light
ORDER = [
    ({}, "inconclusive", "the input range is doubtful, and every figure with it (9 labels tested)"),
    ({"doubtful": False}, "inconclusive", "the time was up; nothing found so far (9 labels tested)"),
    ({"unfinished": ""}, "inconclusive", "9 labels tested; 12 or more are needed"),
    ({"too_few": ""}, "backdoored", "one small trigger moves every label (p = 0.0012; 9 labels tested)"),
    ({"other": "", "chance": None}, "inconclusive", "nothing worked"),
    (
        {"doubt": ""},
        "no evidence",
        (
            "no label needs an abnormally small trigger (9 labels tested; 9 pixels would have been one; "
            "pairs were not looked for)"
        ),
    ),
]


@pytest.mark.parametrize("last", range(len(ORDER)))
def test_what_comes_first_goes_first(last):
    values = dict(ALL)
    for changed, _, _ in ORDER[: last + 1]:
        values |= changed
    assert Case(**values).verdict() == ORDER[last][1:]


def test_targets_stand_although_the_time_was_up_but_not_on_a_doubtful_range_or_beside_too_few_labels():
    found = ALL | {"targets": [3, 5], "doubtful": False, "too_few": ""}
    said = "labels 3, 5 need an abnormally small trigger (p = 0.0012; 9 labels tested)"
    assert Case(**found).verdict() == ("backdoored", said)
    assert Case(**found | {"doubtful": True}).verdict()[0] == "inconclusive"
    assert Case(**found | {"too_few": "12 or more are needed"}).verdict()[0] == "inconclusive"


@pytest.mark.parametrize(
    ("sign", "labels", "said"),
    [
        (SMALL, [3], "label 3 needs an abnormally small trigger"),
        (SMALL, [3, 4], "labels 3, 4 need an abnormally small trigger"),
        (high("margin"), [3], "label 3 has an abnormally high margin"),
        (high("margin"), [1, 2], "labels 1, 2 have an abnormally high margin"),
        (high("margin"), [], "no label has an abnormally high margin"),
    ],
)
def test_a_sign_agrees_with_its_labels(sign, labels, said):
    assert sign.of(labels) == said


def test_labels_are_counted_in_words():
    assert labels_tested(1) == "1 label tested"
    assert labels_tested(1283) == "1283 labels tested"


def test_what_is_not_known_is_none():
    aside = finding(4)
    assert (aside.label, aside.aim) == (4, Aim(target=4))
    unknown = (aside.anomaly_index, aside.p_value, aside.size, aside.unit, aside.attack_success)
    assert unknown == (None,) * 5
    assert (aside.flagged, aside.severity, aside.confidence) == (False, "low", "low")
    # a search without success has a size without end
    nothing = finding(4, size=math.inf, unit=PIXELS)
    assert (nothing.size, nothing.unit) == (None, None)
    found = finding(4, size=2.5, unit=L2)
    assert (found.size, found.unit) == (2.5, L2)


@pytest.mark.parametrize(
    ("values", "severity", "confidence"),
    [
        ({"flagged": True, "success": 0.95, "chance": 1e-4}, "high", "high"),
        ({"flagged": True, "success": 0.5, "chance": 0.005}, "medium", "medium"),
        ({"flagged": True, "success": 0.49, "chance": 0.02}, "low", "low"),
        ({"flagged": True, "chance": 1e-4}, "medium", "high"),  # nobody knows how often it works
        ({"flagged": False, "chance": 1e-4}, "low", "low"),
        ({"flagged": True, "success": 1.0, "chance": 0.5, "confidence": "medium"}, "high", "medium"),
        ({"flagged": False, "success": 1.0, "confidence": "medium"}, "high", "low"),
    ],
)
def test_how_bad_and_how_sure(values, severity, confidence):
    made = finding(1, **values)
    assert (made.severity, made.confidence) == (severity, confidence)
