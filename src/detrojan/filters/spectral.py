"""Spectral signatures: poison stands out along the main direction in which a class varies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.filters.base import Filter, Suspects, check_share, each_class
from detrojan.models.classifier import Classifier
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class Spectral(Filter):
    """Score samples by their part in the main direction of their class, and flag the highest.

    In the features of a network trained on them, poisoned samples of a class lie apart from the clean ones.
    So they make the class's first singular direction. A sample's score is its squared projection on that
    direction. The method always flags the same share of every class, 1.5 times the poison that is expected.
    On clean data all of it is a false alarm.

    Reference: Tran et al., Spectral Signatures in Backdoor Attacks, NeurIPS 2018.

    Args:
        layer: the layer whose output is looked at; empty for the penultimate features.
        poison_rate: share of a class that is expected to be poisoned, in (0, 1).
        factor: so many times that share is flagged; above 0.

    """

    name = "spectral"

    layer: str = ""
    poison_rate: float = 0.1
    factor: float = 1.5

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_share("poison_rate", self.poison_rate)
        if not self.factor > 0:
            raise OptionError(f"expected a factor above 0, got {self.factor:g}")

    @property
    def share(self) -> float:
        """The share of each class that is flagged, in (0, 1]."""
        return min(1.0, self.factor * self.poison_rate)

    def limits(self, flagged: int) -> tuple[str, ...]:
        """Return what the answer cannot say: so many are flagged in any case."""
        told = f"{100 * self.share:.3g}% of each class is always flagged, poisoned or not."
        return (told, *super().limits(flagged))

    def suspect(self, data: Dataset, *, model: Classifier, run: Run) -> Suspects:
        """Score every sample by its squared projection, and flag the highest of each class.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.

        """
        features = self.features(model, data)
        scores = torch.zeros(len(data), dtype=torch.float64)
        flagged = torch.zeros(len(data), dtype=torch.bool)
        classes, warnings = {}, list[str]()
        for label, places in each_class(data, warnings):
            found = projections(features[places])
            scores[places] = found
            count = min(len(places) - 1, math.ceil(self.share * len(places) - 1e-9))
            flagged[places[found.argsort(descending=True, stable=True)[:count]]] = True
            classes[label] = {
                "samples": len(places),
                "flagged": count,
                "share of the variance": explained(features[places]),
            }
        return Suspects(scores=scores, flagged=flagged, classes=classes, warnings=tuple(warnings))


def projections(features: torch.Tensor) -> torch.Tensor:
    """Return each sample's squared projection (N,) on the first singular direction of features (N, D)."""
    centred = features - features.mean(0)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    along: torch.Tensor = centred @ direction
    return along.square()


def explained(features: torch.Tensor) -> float:
    """Return which share of the variance lies along the first singular direction, 0 to 1."""
    squares = torch.linalg.svdvals(features - features.mean(0)).square()
    total = float(squares.sum())
    return float(squares[0]) / total if total > 0 else 0.0
