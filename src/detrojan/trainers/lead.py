"""How clearly isolated samples stand out: the statistic by which a trainer doubts what it isolated."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from detrojan.findings import RepairStep

#: the lead is that of this share of the isolated samples
LED = 0.9
#: a label that makes up this share of the isolated samples is one of theirs
OWN = 0.45
#: losses below this one, near the resolution of single precision, count as this one
LOWEST = 1e-6
#: an isolation is doubtful whose lead is smaller; needless doubts are here as rare as failures without one
DOUBTFUL = 5.0


def lead(found: torch.Tensor, labels: torch.Tensor, isolated: torch.Tensor) -> float:
    """Return how many times as high as the isolated samples' loss is that of another label's easiest ones.

    The isolated samples' loss is the one that 90% of them do not exceed. They are a share of the data; the
    easiest samples of another label are the same share of its own, and the label with the lowest losses
    counts. A label that makes up 45% of the isolated samples is no other label: it may be an attacker's
    target. Where every label does, nothing leads: 1. Among clean samples the easiest label is just
    ahead of the next one. A backdoor is far ahead of all.

    Args:
        found: losses of all samples (N,) that were isolated by.
        labels: of all samples (N,).
        isolated: positions of the isolated samples (I,), one or more.

    """
    loss = found.double().clamp(min=LOWEST)
    count = labels.bincount()
    own = labels[isolated].bincount(minlength=len(count)) >= OWN * len(isolated)
    others = [loss[labels == label] for label in range(len(count)) if count[label] and not own[label]]
    if not others:
        return 1.0
    share = len(isolated) / len(labels)
    easiest = min(float(part.quantile(share)) for part in others)
    return easiest / float(loss[isolated].quantile(LED))


def doubts(steps: Sequence[RepairStep]) -> tuple[str, ...]:
    """Return why what the steps of a training isolated is doubtful, in full sentences.

    Args:
        steps: the isolation first, with its `lead` among the details; `undone` among those of an unlearning.

    """
    found = []
    led = float(steps[0].details["lead"])
    if led < DOUBTFUL:
        found.append(
            "what was isolated hardly stands out: the easiest samples of another label have "
            f"{led:.2g} times its loss, and beside poison {DOUBTFUL:g} times or more; the losses alone do "
            "not tell whether it is poisoned: look at the samples"
        )
    first = [step for step in steps if "undone" in step.details and "further" not in step.method]
    unlearned = [bool(step.details["undone"]) for step in first]
    if unlearned and all(unlearned):
        found.append(
            "what was isolated could not be unlearned beside other samples of its labels, so nothing was: a "
            "backdoor in the data is still in the network"
        )
    elif any(unlearned):
        found.append(
            "the samples of lowest loss could not be unlearned; look at those that were unlearned instead: "
            "they mean another label once half of the image is replaced"
        )
    return tuple(found)
