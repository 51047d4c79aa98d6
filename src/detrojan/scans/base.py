"""What every scan of a model shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError
from detrojan.findings import ScanResult
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class Scan(Method, ABC):
    """Base of the scans: each judges a model with a few clean images, labelled or not."""

    @abstractmethod
    def scan(
        self, model: Classifier, data: Dataset, *, run: Run, labels: Sequence[int] | None = None
    ) -> ScanResult:
        """Judge `model` on clean `data`, testing `labels` as targets (None: all)."""


def labels_to_test(model: Classifier, labels: Sequence[int] | None) -> list[int]:
    """Return the labels to test, in ascending order, each once.

    Raises:
        LabelError: one lies beyond the classes of the model.

    """
    if labels is None:
        return list(range(model.num_classes))
    chosen = sorted(set(labels))
    wrong = [label for label in chosen if not 0 <= label < model.num_classes]
    if wrong or not chosen:
        raise LabelError(
            f"expected labels of 0 to {model.num_classes - 1}, got {', '.join(map(str, wrong)) or 'none'}"
        )
    return chosen
