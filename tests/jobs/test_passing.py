from __future__ import annotations

from pathlib import Path

import pytest

from detrojan.findings import Finding
from detrojan.guards.mahalanobis import Mahalanobis
from detrojan.jobs import passing as job
from detrojan.jobs.findings import Given
from detrojan.run import Run
from twins import TARGET, few_signs


@pytest.fixture(scope="module")
def guard(twins):
    return Mahalanobis(frr=0.05).calibrate(
        twins.backdoored, few_signs(200, 11), run=Run(seed=1, device="cpu")
    )


def test_without_a_scan_nothing_is_told(twins, guard):
    assert job.passing(guard, twins.test, None) == (None, [])


def test_it_counts_the_stamped_images_that_pass(twins, guard, monkeypatch):
    finding = Finding(
        label=TARGET, anomaly_index=3.0, attack_success=1.0, flagged=True, trigger=twins.trigger
    )
    given = Given(findings=(finding,), warnings=("from another file",))
    monkeypatch.setattr(job, "read_findings", lambda *_: given)
    (found,), told = job.passing(guard, twins.test, Path("scan.json"))
    assert told == ["from another file"]
    others = twins.test.images[twins.backdoored.answers(twins.test.images) != TARGET]
    passed = ~guard.refuses(twins.trigger.stamp(others))
    assert (found.label, found.stamped, found.passed) == (TARGET, len(others), int(passed.sum()))
    assert found.passed < found.stamped
