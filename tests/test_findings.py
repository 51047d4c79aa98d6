from __future__ import annotations

import dataclasses

import pytest

from detrojan.errors import OptionError
from detrojan.findings import PIXELS, Finding, ScanResult, confidence_in, severity_of
from detrojan.triggers.aim import Aim


def test_a_finding_leads_from_all_other_labels_to_its_own_where_nothing_else_is_said():
    assert Finding(label=3, flagged=True).aim == Aim(target=3)
    assert Finding(label=3, flagged=True, aim=Aim(target=3, source=1)).aim.source == 1
    assert Finding(label=3, flagged=True, aim=Aim(offset=1)).aim.target is None


def test_an_aim_that_leads_to_another_label_is_refused():
    with pytest.raises(OptionError, match="leads to the label 3, got the target 2"):
        Finding(label=3, flagged=True, aim=Aim(target=2))
    with pytest.raises(OptionError, match="leads to the label 4, got the target 3"):
        dataclasses.replace(Finding(label=3, flagged=True), label=4)


def test_a_size_without_a_unit_is_refused():
    assert Finding(label=0, flagged=False, size=4.0, unit=PIXELS).size == 4.0
    with pytest.raises(OptionError, match="expected a unit for a size of 4, got none"):
        Finding(label=0, flagged=False, size=4.0)


@pytest.mark.parametrize(
    ("success", "level"), [(1.0, "high"), (0.9, "high"), (0.89, "medium"), (0.5, "medium"), (0.49, "low")]
)
def test_severity_follows_how_often_the_trigger_works(success, level):
    assert severity_of(success) == level


@pytest.mark.parametrize(
    ("chance", "level"), [(0.0, "high"), (0.001, "medium"), (0.0099, "medium"), (0.01, "low"), (1.0, "low")]
)
def test_confidence_follows_the_p_value(chance, level):
    assert confidence_in(chance) == level


def test_flagged_labels_come_most_anomalous_first_and_targets_in_their_order():
    weak, strong = (
        Finding(label=label, flagged=True, anomaly_index=index) for label, index in ((1, 2.5), (4, 9.0))
    )
    other = Finding(label=2, flagged=False, anomaly_index=30.0)
    result = ScanResult(verdict="backdoored", reason="", findings=(weak, other, strong), passes=0)
    assert [finding.label for finding in result.flagged] == [4, 1]
    assert result.targets == [1, 4]
