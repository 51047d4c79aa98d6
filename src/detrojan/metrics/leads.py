"""Where the triggers that a scan has recovered lead."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from detrojan.findings import Finding
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger


def leads(findings: Iterable[Finding]) -> list[Backdoor]:
    """Return the backdoors that the findings tell of; those with an equal trigger and aim are one.

    A finding without a trigger tells of none.
    """
    found: list[Backdoor] = []
    for finding in findings:
        if finding.trigger is None:
            continue
        if not any(one.aim == finding.aim and _equal(one.trigger, finding.trigger) for one in found):
            found.append(Backdoor(trigger=finding.trigger, aim=finding.aim))
    return found


def _equal(one: Trigger, other: Trigger) -> bool:
    if one is other:
        return True
    (tensors, values), (others, their_values) = one.state(), other.state()
    return ((one.kind, values, tensors.keys()) == (other.kind, their_values, others.keys())) and all(
        torch.equal(tensor, others[name]) for name, tensor in tensors.items()
    )
