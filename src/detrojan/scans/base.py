"""What every scan of a model shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from detrojan.data.dataset import Dataset
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
