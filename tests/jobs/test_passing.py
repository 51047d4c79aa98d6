from __future__ import annotations

import pytest

from detrojan.findings import Finding
from detrojan.guards.auto import FOUND, Auto
from detrojan.guards.likeness import taught
from detrojan.guards.mahalanobis import Mahalanobis
from detrojan.jobs.findings import Given
from detrojan.jobs.passing import calibrated, passing
from detrojan.run import Run
from twins import TARGET, few_signs

RUN = Run(seed=1, device="cpu")


@pytest.fixture(scope="module")
def given(twins):
    found = Finding(label=TARGET, anomaly_index=3.0, attack_success=1.0, flagged=True, trigger=twins.trigger)
    return Given(findings=(found,))


@pytest.mark.parametrize("method", [Mahalanobis(frr=0.05), Auto(frr=0.05, parts="mahalanobis")])
def test_it_counts_the_images_that_pass_of_those_nobody_learned_from(twins, given, method):
    guard = calibrated(method, twins.backdoored, few_signs(200, 11), given, run=RUN)
    (found,) = passing(guard, twins.test, given, run=RUN)
    images = twins.test.images[~taught(len(twins.test), RUN)]
    others = images[twins.backdoored.answers(images) != TARGET]
    passed = ~guard.refuses(twins.trigger.stamp(others))
    assert (found.label, found.stamped, found.passed) == (TARGET, len(others), int(passed.sum()))
    assert found.passed < found.stamped


def test_only_a_guard_that_can_use_them_is_given_the_findings(twins, given):
    clean = few_signs(100, 11)
    auto = calibrated(Auto(parts="mahalanobis"), twins.backdoored, clean, given, run=RUN)
    assert FOUND in auto.state()[1]
    plain = calibrated(Auto(parts="mahalanobis"), twins.backdoored, clean, None, run=RUN)
    assert FOUND not in plain.state()[1]
