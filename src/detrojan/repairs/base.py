"""What every repair of a model shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.method import Method
from detrojan.metrics.leads import leads
from detrojan.models.classifier import Classifier
from detrojan.repairs.lessons import Lesson
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A repaired copy and how it was made.

    Attributes:
        model: the repaired copy; the model that was given is unchanged.
        steps: what was done, in order.

    """

    model: Classifier
    steps: tuple[RepairStep, ...]


@dataclass(frozen=True, kw_only=True)
class Repair(Method, ABC):
    """Base of the repairs: each uses clean data and recovered triggers only, never the attacker's."""

    @abstractmethod
    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a repaired copy of `model`.

        `data` are clean images; where they carry no labels, the model's own answers stand in.
        `findings` are the flagged findings of a scan, each with its recovered trigger; none where nothing
        was looked for, which a repair that needs triggers refuses.
        """

    def needs_triggers(self) -> bool:
        """Return whether it can do nothing without a recovered trigger."""
        return False


def with_triggers(findings: Sequence[Finding], method: str) -> list[Backdoor]:
    """Return where the findings' triggers lead.

    Raises:
        OptionError: there are no findings, or one carries no trigger.

    """
    carrying = sum(finding.trigger is not None for finding in findings)
    if not carrying or carrying < len(findings):
        got = f"{carrying} of {len(findings)} with one" if findings else "no findings"
        raise OptionError(f"expected findings with a recovered trigger for {method}, got {got}")
    return leads(findings)


def worst_success(model: Classifier, triggers: Sequence[Backdoor], taught: Lesson) -> float:
    """Return the highest attack success among the triggers on the lesson's images, 0 to 1."""
    return max(lead.success(model, taught.images, taught.truth) for lead in triggers)


def times(count: int, what: str) -> str:
    """Return a count with its noun, e.g. "1 epoch" or "5 epochs"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
