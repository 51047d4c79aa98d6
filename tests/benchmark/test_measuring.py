"""What a scan found is held against what is there."""

from __future__ import annotations

import pytest
import torch

from detrojan.attacks.base import Backdoor
from detrojan.benchmark import measuring
from detrojan.benchmark.making import Subject
from detrojan.findings import Finding, ScanResult
from detrojan.triggers.patch import PatchTrigger
from twins import CLASSES, SHAPE

ALL_TO_ALL = {"target": None, "offset": 1}
EACH = range(CLASSES)


@pytest.mark.parametrize(
    ("backdoor", "flagged", "figures"),
    [
        ({"target": 2}, [2], {"flagged": 1, "found": 1, "target_right": 1, "false_targets": 0}),
        ({"target": 2}, [2, 3], {"flagged": 1, "found": 1, "target_right": 1, "false_targets": 1}),
        ({"target": 2}, [3], {"flagged": 1, "found": 1, "target_right": 0, "false_targets": 1}),
        ({"target": 2}, [], {"flagged": 0, "found": 0, "target_right": 0, "false_targets": 0}),
        (ALL_TO_ALL, EACH, {"flagged": 1, "found": 1, "target_right": 1, "false_targets": 0}),
        (ALL_TO_ALL, [2], {"flagged": 1, "found": 1, "target_right": 0, "false_targets": 0}),
        ({"target": None}, [], {"flagged": 0, "found": 0, "false_targets": 0}),  # untargeted
        (None, [], {"flagged": 0, "false_targets": 0}),
        (None, [3], {"flagged": 1, "false_targets": 1}),
    ],
)
def test_a_scan_s_labels_are_held_against_the_true_ones(twins, backdoor, flagged, figures):
    trigger = PatchTrigger(torch.ones(SHAPE[1:]), torch.ones(SHAPE))
    backdoors = () if backdoor is None else (Backdoor(trigger=trigger, **backdoor),)
    subject = Subject(model=twins.clean, backdoors=backdoors, poisoned=None, twin=None, seconds={})
    findings = tuple(
        Finding(label=label, anomaly_index=1.0, mask_l1=9.0, attack_success=0.9, flagged=label in flagged)
        for label in EACH
    )
    result = ScanResult(
        verdict="backdoored" if flagged else "no evidence",
        reason="",
        findings=findings,
        passes=7,
    )
    assert measuring._scan(result, subject).figures == {"passes": 7, **figures}
