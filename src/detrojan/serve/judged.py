"""What a guarded model says of a batch of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from detrojan.errors import NonFiniteError
from detrojan.guards.base import Calibrated
from detrojan.models.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Answers and verdicts.

    Attributes:
        probabilities: (N, K), float32.
        scores: (N,), float64, higher where more suspicious.
        rejected: (N,), bool.

    """

    probabilities: torch.Tensor
    scores: torch.Tensor
    rejected: torch.Tensor

    def part(self, start: int, stop: int) -> Judged:
        """Return what is said of some of the images."""
        return Judged(
            probabilities=self.probabilities[start:stop],
            scores=self.scores[start:stop],
            rejected=self.rejected[start:stop],
        )

    @property
    def labels(self) -> torch.Tensor:
        """The most likely label of each image (N,), int64."""
        return self.probabilities.argmax(1)

    @property
    def verdicts(self) -> list[str]:
        """Return "backdoored" or "clean" for each image."""
        return ["backdoored" if bad else "clean" for bad in self.rejected.tolist()]

    @property
    def reasons(self) -> list[str]:
        """Why each image is rejected: its "score", or an "overflow" of the answers; empty for clean."""
        whole = self.scores.isfinite().tolist()
        return [
            ("score" if fine else "overflow") if bad else ""
            for bad, fine in zip(self.rejected.tolist(), whole, strict=True)
        ]

    def with_class(self) -> Judged:
        """Return answers of one class more, "backdoored", which every rejected image gets."""
        share = self.rejected.to(self.probabilities.dtype)[:, None]
        wider = torch.cat([torch.where(share > 0, 0, self.probabilities), share], 1)
        return Judged(probabilities=wider, scores=self.scores, rejected=self.rejected)


def judge(guard: Calibrated, images: torch.Tensor, model: Classifier | None = None) -> Judged:
    """Ask a guarded model.

    Images for which a model that only answers gives numbers that are not finite are looked for, by halves.
    Their scores are NaN, so that they are rejected, and the others are judged as usual.

    Args:
        guard: calibrated, with its model.
        images: (N, C, H, W) in [0, 1].
        model: the one that answers, where it is not the guard's own.

    """
    asked = guard.model if model is None else model
    try:
        scores = guard.score(images)
        probabilities = asked.probabilities(images)
    except NonFiniteError:
        if len(images) == 1:
            scores = torch.full((1,), math.nan, dtype=torch.float64)
            probabilities = torch.full((1, asked.num_classes), math.nan)
        else:
            half = len(images) // 2
            parts = [judge(guard, images[:half], model), judge(guard, images[half:], model)]
            return Judged(
                probabilities=torch.cat([part.probabilities for part in parts]),
                scores=torch.cat([part.scores for part in parts]),
                rejected=torch.cat([part.rejected for part in parts]),
            )
    return Judged(probabilities=probabilities, scores=scores, rejected=guard.suspicious(scores))
