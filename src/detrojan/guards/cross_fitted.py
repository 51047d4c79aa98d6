"""Guards that learn from clean images and set their boundary on them too, each scored while left out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.guards.base import Calibrated, Guard
from detrojan.guards.tail import Tail
from detrojan.models.blackbox import check_sees
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: fewer clean images than this are not divided
FEWEST = 16
#: what is scored in one go while a guard is set up
PART = 64


@dataclass(frozen=True, kw_only=True)
class CrossFitted(Guard, ABC):
    """Base of the guards that learn from all clean images, and set their boundary on all of them as well.

    The images are divided into folds. Each fold is scored by a guard that has learned from the others.
    These scores set the boundary of the guard that has learned from all.

    A subclass states its hyper-parameters, `frr` among them, and what it learns.
    """

    #: how often it learns to score all images that were left out
    folds: ClassVar[int] = 5

    frr: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_frr(self.frr)

    @abstractmethod
    def learned(self, model: Classifier, known: Dataset, *, run: Run) -> Calibrated:
        """Return a guard without a boundary: its threshold is 0, and it has no clean scores.

        Args:
            model: the network to guard; unchanged.
            known: clean images to learn from; their labels may be missing.
            run: device, seed, progress, checkpoint.

        """

    def crossed(self, model: Classifier, clean: Dataset, *, run: Run) -> tuple[Calibrated, torch.Tensor]:
        """Return a guard without a boundary that has learned from all images, and their scores (N,).

        Each score is of a guard that has not learned from that image.

        Raises:
            DataError: scores that are no finite number.

        """
        scores = torch.empty(len(clean), dtype=torch.float64)
        for number, (left_out, known) in enumerate(folded(len(clean), self.folds, run)):
            part = self.learned(model, clean.select(known), run=run.within("fold", number))
            scores[left_out] = scored(part, clean.images[left_out], run=run)
        return self.learned(model, clean, run=run), scores

    def calibrate(self, model: Classifier, clean: Dataset, *, run: Run) -> Calibrated:
        """Return a guard for `model` whose boundary rejects a share `frr` of clean inputs.

        Raises:
            DataError: images of another shape, too few of them, or ones whose score is no finite number.
            AnswersOnlyError: a model that only answers, and a guard that needs more.

        """
        check_clean(self, model, clean)
        return bounded(*self.crossed(model, clean, run=run), self.frr)


def check_frr(frr: float) -> None:
    """Refuse a false rejection rate outside (0, 0.5) with an `OptionError`."""
    if not 0 < frr < 0.5:
        raise OptionError(f"expected frr in (0, 0.5), got {frr:g}")


def check_clean(guard: Guard, model: Classifier, clean: Dataset) -> None:
    """Refuse clean images that a guard cannot be set up with.

    Raises:
        DataError: images of another shape, or too few of them.
        AnswersOnlyError: a model that only answers, and a guard that needs more.

    """
    check_sees(guard, model)
    model.check(clean.images)
    if len(clean) < FEWEST:
        raise DataError(f"expected {FEWEST} or more clean images, got {len(clean)}")


def folded(count: int, folds: int, run: Run) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return for each fold the places of the images that are left out, and of those that are learned from.

    Args:
        count: how many images there are.
        folds: how many folds.
        run: its stream "guard", "folds" says which image is in which.

    """
    order = torch.randperm(count, generator=run.generator("guard", "folds"))
    parts = order.tensor_split(min(folds, count))
    return [(part, torch.cat([one for one in parts if one is not part])) for part in parts]


def scored(guard: Calibrated, images: torch.Tensor, *, run: Run) -> torch.Tensor:
    """Return the scores of clean images (N,).

    Raises:
        DataError: scores that are no finite number.

    """
    parts = []
    with run.progress.task(guard.method.name, len(images)) as task:
        for start in range(0, len(images), PART):
            parts.append(guard.score(images[start : start + PART]))
            task.advance(len(parts[-1]))
    return finite(guard, torch.cat(parts))


def finite(guard: Calibrated, scores: torch.Tensor) -> torch.Tensor:
    """Return the scores of clean images (N,), all of them finite.

    Raises:
        DataError: scores that are no finite number.

    """
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
            f"expected {math.ceil(1 / frr)} or more clean images for a false rejection rate of "
            f"{frr:.2%}, got {len(scores)}: the boundary is a guess"
        )
    limit = Tail.of(scores).reached_by(frr)
    return replace(guard, threshold=limit, clean_scores=scores, warnings=tuple(warnings))
