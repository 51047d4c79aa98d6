"""Guards that learn from one half of the clean images, and set their boundary on the other half."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.guards.base import Calibrated, Guard
from detrojan.models.blackbox import check_sees
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: fewer clean images than this are not divided
FEWEST = 16
#: what is scored in one go while a guard is set up
_PART = 64


@dataclass(frozen=True, kw_only=True)
class Halved(Guard, ABC):
    """Base of the guards that learn from one half of the clean images, and set their boundary on the other.

    A subclass states its hyper-parameters, `frr` among them, and what it learns.
    """

    frr: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if not 0 < self.frr < 0.5:
            raise OptionError(f"expected frr in (0, 0.5), got {self.frr:g}")

    @abstractmethod
    def learned(self, model: Classifier, known: Dataset, *, run: Run) -> Calibrated:
        """Return a guard without a boundary: its threshold is 0, and it has no clean scores.

        Args:
            model: the network to guard; unchanged.
            known: clean images to learn from; their labels may be missing.
            run: device, seed, progress, checkpoint.

        """

    def calibrate(self, model: Classifier, clean: Dataset, *, run: Run) -> Calibrated:
        """Return a guard for `model` whose boundary rejects a share `frr` of clean inputs.

        Raises:
            DataError: images of another shape, too few of them, or ones whose score is no finite number.
            AnswersOnlyError: a model that only answers, and a guard that needs more.

        """
        known, rest = halves(self, model, clean, run=run)
        unset = self.learned(model, known, run=run)
        return bounded(unset, scored(unset, rest.images, run=run), self.frr)


def halves(guard: Guard, model: Classifier, clean: Dataset, *, run: Run) -> tuple[Dataset, Dataset]:
    """Return the images to learn from, and those that the boundary is set on.

    Raises:
        DataError: images of another shape, or too few of them.
        AnswersOnlyError: a model that only answers, and a guard that needs more.

    """
    check_sees(guard, model)
    model.check(clean.images)
    if len(clean) < FEWEST:
        raise DataError(f"expected {FEWEST} or more clean images, got {len(clean)}")
    return clean.split(len(clean) // 2, run.generator("guard", "halves"))


def scored(guard: Calibrated, images: torch.Tensor, *, run: Run) -> torch.Tensor:
    """Return the scores of clean images (N,).

    Raises:
        DataError: scores that are no finite number.

    """
    parts = []
    with run.progress.task(guard.method.name, len(images)) as task:
        for start in range(0, len(images), _PART):
            parts.append(guard.score(images[start : start + _PART]))
            task.advance(len(parts[-1]))
    scores = torch.cat(parts)
    bad = int((~scores.isfinite()).sum())
    if bad:
        raise DataError(
            f"expected a finite {guard.statistic} of the clean images, got {bad} of {len(scores)} that are "
            "no finite number: no boundary can be set for this network"
        )
    return scores


def bounded(guard: Calibrated, scores: torch.Tensor, frr: float) -> Calibrated:
    """Return the guard with its boundary set on the scores of clean images (N,) that it has not learned."""
    warnings = list(guard.warnings)
    if len(scores) * frr < 1:
        warnings.append(
            f"expected {2 * math.ceil(1 / frr)} or more clean images for a false rejection rate of "
            f"{frr:.2%}, half of them for the boundary, got {len(scores)} there: the boundary is a guess"
        )
    return replace(guard, threshold=boundary_at(scores, frr), clean_scores=scores, warnings=tuple(warnings))


def boundary_at(scores: torch.Tensor, frr: float) -> float:
    """Return what the score of a further clean input reaches with probability `frr`.

    Of N exchangeable scores, a further one exceeds the k-th smallest with probability 1 - k / (N + 1);
    between them it is interpolated. Beyond the largest one the boundary lies just above it, and so it does
    above a score that many inputs share, where more than the asked share would reach it.
    """
    place = (len(scores) + 1) * (1 - frr)
    ordered = scores.double().sort().values
    low = math.floor(place)
    if low >= len(ordered):
        return float(torch.nextafter(ordered[-1], ordered.new_tensor(math.inf)))
    limit = torch.lerp(ordered[low - 1], ordered[low], place - low)
    shared = int((ordered >= limit).sum()) > len(ordered) - low + 1
    return float(torch.nextafter(limit, ordered.new_tensor(math.inf)) if shared else limit)
