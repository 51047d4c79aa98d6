from __future__ import annotations

import pytest
import torch

from bands import SHAPE, banded, bands, column
from detrojan.errors import LabelError, OptionError
from detrojan.findings import Finding
from detrojan.repairs.base import with_triggers, worst_success
from detrojan.repairs.lessons import lesson
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger


def finding(label: int = 1, trigger: PatchTrigger | None = None) -> Finding:
    return Finding(label=label, anomaly_index=3, attack_success=1, flagged=True, trigger=trigger)


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        ([], "with a recovered trigger for prune, got no findings"),
        ([finding()], "with a recovered trigger for prune, got 0 of 1 with one"),
        ([finding(), finding(2, column(2))], "with a recovered trigger for prune, got 1 of 2 with one"),
    ],
)
def test_findings_without_a_trigger_are_refused(findings, text):
    with pytest.raises(OptionError, match=text):
        with_triggers(findings, "prune")


def test_triggers_come_with_their_labels():
    one, two = column(1), column(2)
    found = with_triggers([finding(2, two), finding(1, one)], "unlearn")
    assert [(lead.aim.target, lead.trigger) for lead in found] == [(2, two), (1, one)]


def test_the_worst_success_is_that_of_the_strongest_trigger():
    model, data = bands(), banded()
    weak = PatchTrigger(torch.zeros(SHAPE), torch.zeros(SHAPE))
    known = [Backdoor(trigger=weak, target=2), Backdoor(trigger=column(1), target=1)]
    taught = lesson(model, data, [])
    assert worst_success(model, known, taught) == 1
    assert worst_success(model, known[:1], taught) == 0
    only = lesson(model, data.select(data.labels == 1), [])
    with pytest.raises(LabelError, match="classes other than the target 1, got none"):
        worst_success(model, known[1:], only)
