from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError
from detrojan.findings import ScanResult
from detrojan.jobs.repairing import repair_outcome, verify
from detrojan.models.classifier import Classifier
from detrojan.report.report import measures
from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.scans.k_arm import KArm


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
        ({}, "no evidence", "not verified"),
        ({}, None, "not verified"),
        ({}, "backdoored", "not repaired"),
    ],
)
def test_a_repair_counts_only_where_the_trigger_is_dead_and_the_new_scan_finds_nothing(
    success, verdict, outcome
):
    before = measures(clean_accuracy=0.95, attack_success={3: 1.0})
    after = measures(clean_accuracy=0.9, attack_success=success)
    assert repair_outcome(before, after, None if verdict is None else rescan(verdict)) == outcome


def test_a_repair_that_destroyed_the_network_is_none():
    before = measures(clean_accuracy=0.84, attack_success={3: 1.0})
    after = measures(clean_accuracy=0.04, attack_success={3: 0.0})
    assert repair_outcome(before, after, rescan("inconclusive")) == "not repaired"


@pytest.mark.parametrize(
    ("scan", "classes", "count"),
    [(Cascade(), 18, 18), (Cascade(), 24, 24), (Cascade(), 25, 11), (KArm(), 18, 11)],
)
def test_all_labels_are_verified_where_the_scan_searches_them_anyway(monkeypatch, scan, classes, count):
    asked = []
    monkeypatch.setattr(
        type(scan), "scan", lambda *_a, labels, **_k: asked.append(labels) or rescan("no evidence")
    )
    verify(linear(classes), data(40), [12], scan=scan, run=Run())
    ((labels),) = asked
    assert len(labels) == count
    assert 12 in labels


def test_too_few_images_for_a_scan_make_a_repair_not_verified():
    found = verify(linear(6), data(15), [3], scan=Cascade(), run=Run())
    assert found.verdict == "inconclusive"
    assert found.reason == ("the repaired model could not be scanned: expected 20 images or more, got 15")
    with pytest.raises(DataError, match="expected 20 images or more, got 15"):
        Cascade().scan(linear(6), data(15), run=Run())


def linear(classes):
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, classes)), (1, 8, 8))


def data(count):
    return Dataset(torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)), None)
