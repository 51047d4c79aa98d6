"""What every repair of a model shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from detrojan.data.dataset import Dataset
from detrojan.findings import Finding, RepairStep
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.run import Run


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
        `findings` are the flagged findings of a scan, each with its recovered trigger.
        """
