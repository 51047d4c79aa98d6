"""Where the triggers that a scan has recovered lead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from detrojan.findings import Finding
from detrojan.triggers.aim import Aim
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger


def leads(findings: Iterable[Finding]) -> list[Backdoor]:
    """Return the backdoors that the findings tell of; those with an equal trigger and aim are one.

    A finding without a trigger tells of none.
    """
    found: list[Backdoor] = []
    for trigger, alike in _by_trigger(findings):
        aims = dict.fromkeys(_aims(alike))
        found += [Backdoor(trigger=trigger, aim=aim) for aim in aims]
    return found


def _by_trigger(findings: Iterable[Finding]) -> list[tuple[Trigger, list[Finding]]]:
    """Return the findings with a trigger, those with an equal one together."""
    groups: list[tuple[Trigger, list[Finding]]] = []
    for finding in findings:
        if finding.trigger is None:
            continue
        for trigger, alike in groups:
            if _equal(trigger, finding.trigger):
                alike.append(finding)
                break
        else:
            groups.append((finding.trigger, [finding]))
    return groups


def _aims(alike: Sequence[Finding]) -> list[Aim]:
    """Return the aims of findings that share a trigger: an offset where it turns all labels into others."""
    classes = range(len(alike))
    whole = {one.label for one in alike} == {one.source for one in alike} == {*classes}
    steps = {(one.label - (one.source or 0)) % len(classes) for one in alike}
    if whole and len(steps) == 1 and steps != {0}:
        return [Aim(offset=steps.pop())]
    return [Aim(target=one.label, source=one.source) for one in alike]


def _equal(one: Trigger, other: Trigger) -> bool:
    if one is other:
        return True
    (tensors, values), (others, their_values) = one.state(), other.state()
    return ((one.kind, values, tensors.keys()) == (other.kind, their_values, others.keys())) and all(
        torch.equal(tensor, others[name]) for name, tensor in tensors.items()
    )
