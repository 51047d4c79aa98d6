"""Where recovered triggers lead: which images each of them moves, and to which label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import torch

from detrojan.errors import LabelError
from detrojan.findings import Finding
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.triggers.base import Trigger

#: the goal of an image that a trigger is not meant to move
NOWHERE = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Lead:
    """A trigger, the labels that it leads to, and from where.

    Attributes:
        trigger: what is stamped.
        labels: the labels that it leads to.
        sources: for each of them the only label whose images it moves there, or None where it is
            every other. Several labels have distinct sources: an all-to-all backdoor is one lead.

    """

    trigger: Trigger
    labels: tuple[int, ...]
    sources: tuple[int | None, ...]

    @classmethod
    def of(cls, label: int, trigger: Trigger, source: int | None = None) -> Self:
        """Return the lead to one label."""
        return cls(trigger=trigger, labels=(label,), sources=(source,))

    @property
    def one_class(self) -> bool:
        """Whether it moves the images of a single class only."""
        return len(self.sources) == 1 and self.sources[0] is not None

    def goals(self, truth: torch.Tensor) -> torch.Tensor:
        """Return the label that each image of true labels (N,) is moved to, -1 where it is not; int64."""
        goals = torch.full((len(truth),), NOWHERE)
        for label, source in zip(self.labels, self.sources, strict=True):
            others = truth != label
            goals[others if source is None else others & (truth == source)] = label
        return goals

    def moved(self, truth: torch.Tensor) -> torch.Tensor:
        """Return the positions of the images that are moved.

        Raises:
            LabelError: none is.

        """
        places = (self.goals(truth) != NOWHERE).nonzero().flatten()
        if len(places) == 0:
            if None in self.sources:
                raise LabelError(
                    f"expected images of classes other than the target {self.labels[0]}, got none"
                )
            told = ", ".join(map(str, self.sources[:4]))
            raise LabelError(f"expected images of the class that the trigger moves ({told}), got none")
        return places

    def success(self, model: Classifier, images: torch.Tensor, truth: torch.Tensor) -> float:
        """Return the share of the images that are to be moved that are, 0 to 1.

        Raises:
            LabelError: none is to be moved.

        """
        places = self.moved(truth)
        goals = self.goals(truth)[places]
        return attack_success(model, self.trigger, images[places], truth[places], goals)


def leads(findings: Iterable[Finding]) -> list[Lead]:
    """Return the leads of the findings that carry a trigger; those of one all-to-all backdoor are one."""
    found: list[Lead] = []
    for finding in findings:
        if finding.trigger is None:
            continue
        lead = Lead.of(finding.label, finding.trigger, finding.source)
        for place, other in enumerate(found):
            if _one_backdoor(other, lead):
                found[place] = replace(
                    other, labels=other.labels + lead.labels, sources=other.sources + lead.sources
                )
                break
        else:
            found.append(lead)
    return found


def _one_backdoor(one: Lead, other: Lead) -> bool:
    """Return whether a trigger moves each of several classes to a label of its own."""
    apart = None not in {*one.sources, *other.sources} and not {*one.sources} & {*other.sources}
    return apart and _equal(one.trigger, other.trigger)


def _equal(one: Trigger, other: Trigger) -> bool:
    if one is other:
        return True
    (tensors, values), (others, their_values) = one.state(), other.state()
    return ((one.kind, values, tensors.keys()) == (other.kind, their_values, others.keys())) and all(
        torch.equal(tensor, others[name]) for name, tensor in tensors.items()
    )
