from __future__ import annotations

import pytest

from detrojan.findings import ScanResult
from detrojan.report.report import measures
from detrojan.workflow import repair_outcome


def rescan(verdict: str) -> ScanResult:
    return ScanResult(verdict=verdict, reason="because", findings=(), passes=0)


@pytest.mark.parametrize(
    ("success", "verdict", "outcome"),
    [
        ({3: 0.0}, "no evidence", "repaired"),
        ({3: 0.0}, None, "repaired"),
        ({3: 0.0}, "inconclusive", "not verified"),
        ({3: 0.0}, "backdoored", "not repaired"),
        ({3: 0.05}, "no evidence", "not repaired"),
        ({3: 0.0, 4: 0.9}, "inconclusive", "not repaired"),
        ({}, "no evidence", "not repaired"),
    ],
)
def test_a_repair_counts_only_where_the_trigger_is_dead_and_the_new_scan_finds_nothing(
    success, verdict, outcome
):
    after = measures(clean_accuracy=0.9, attack_success=success)
    assert repair_outcome(after, None if verdict is None else rescan(verdict)) == outcome
