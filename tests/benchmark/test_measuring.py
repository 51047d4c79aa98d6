"""What a scan found is held against what is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.benchmark import measuring
from detrojan.benchmark.judging import Judge
from detrojan.benchmark.making import Subject
from detrojan.benchmark.materials import Material
from detrojan.data.dataset import Dataset
from detrojan.findings import Finding, ScanResult
from detrojan.run import Run
from detrojan.trainers.base import Trained
from detrojan.trainers.plain import Plain
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger
from twins import CLASSES, SHAPE

SEEN: list[tuple[Dataset, torch.Tensor]] = []


class Told(Plain):
    """Notes what it was to be trained on."""

    def train(self, model, data, *, run, poisoned=None):
        SEEN.append((data, poisoned))
        return Trained(model=model, isolated=torch.empty(0, dtype=torch.int64), steps=())


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
        Finding(label=label, anomaly_index=1.0, attack_success=0.9, flagged=label in flagged)
        for label in EACH
    )
    result = ScanResult(
        verdict="backdoored" if flagged else "no evidence",
        reason="",
        findings=findings,
        passes=7,
    )
    assert measuring._scan(result, subject).figures == {"passes": 7, **figures}


def test_a_trainer_meets_the_triggers_of_an_attacker_who_trains_himself(twins):
    trigger, run = twins.trigger, Run()
    backdoors = (Backdoor(trigger=trigger, target=1),)
    material = Material(train=twins.test, clean=twins.test, test=twins.test)
    subject = Subject(
        model=twins.backdoored, backdoors=backdoors, poisoned=None, twin=twins.clean, seconds={}
    )
    judge = Judge.of(subject, material)
    SEEN.clear()
    made = measuring._trainer(Told(), subject, material, judge, start=twins.clean, run=run)
    assert made.details["stamped"] == 0.1
    ((data, poisoned),) = SEEN
    assert len(poisoned) == round(0.1 * len(data))
    assert set(data.labels[poisoned].tolist()) == {1}
    assert torch.equal(data.images[poisoned], trigger.stamp(twins.test.images[poisoned]))
    delivered = replace(subject, twin=None)
    with pytest.raises(measuring.NotApplicableError, match="what data the delivered network was trained on"):
        measuring._trainer(Told(), delivered, material, judge, start=twins.clean, run=run)
