"""Guards that read some numbers of each image, once, and learn how these are spread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch

from detrojan.data.dataset import Dataset
from detrojan.guards.base import Calibrated
from detrojan.guards.cross_fitted import PART, CrossFitted, finite, folded
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: what was read of N images: each tensor has a row for each
Readings = tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedReader(Calibrated):
    """A guard that judges what it reads of an image."""

    @abstractmethod
    def read(self, images: torch.Tensor) -> Readings:
        """Return what is read of images (N, C, H, W), whatever was learned.

        Raises:
            DataError: images of another shape than the network's.

        """

    @abstractmethod
    def judged(self, readings: Readings) -> torch.Tensor:
        """Return the scores (N,) of what was read."""

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return one score per image (N,), float64, higher where more suspicious."""
        return self.judged(self.read(images))


Read = TypeVar("Read", bound=CalibratedReader)


@dataclass(frozen=True, kw_only=True)
class Reader(CrossFitted, ABC, Generic[Read]):
    """Base of the guards that read each clean image once, however often they learn from it."""

    #: learning costs next to nothing, and almost all images take part in it each time
    folds: ClassVar[int] = 20

    @abstractmethod
    def blank(self, model: Classifier, *, run: Run) -> Read:
        """Return a guard that reads, and has learned nothing."""

    @abstractmethod
    def taught(self, blank: Read, readings: Readings) -> Read:
        """Return a guard without a boundary that has learned from what was read of clean images."""

    def learned(self, model: Classifier, known: Dataset, *, run: Run) -> Read:
        """Return the guard without a boundary."""
        blank = self.blank(model, run=run)
        return self.taught(blank, read_all(blank, known.images, run=run))

    def crossed(self, model: Classifier, clean: Dataset, *, run: Run) -> tuple[Read, torch.Tensor]:
        """Return a guard without a boundary that has learned from all images, and their scores (N,).

        Each score is of a guard that has not learned from that image.

        Raises:
            DataError: scores that are no finite number.

        """
        blank = self.blank(model, run=run)
        readings = read_all(blank, clean.images, run=run)
        scores = torch.empty(len(clean), dtype=torch.float64)
        for left_out, known in folded(len(clean), self.folds, run):
            part = self.taught(blank, tuple(one[known] for one in readings))
            scores[left_out] = part.judged(tuple(one[left_out] for one in readings))
        return self.taught(blank, readings), finite(blank, scores)


def read_all(guard: CalibratedReader, images: torch.Tensor, *, run: Run) -> Readings:
    """Return what a guard reads of many images."""
    found = []
    with run.progress.task(guard.method.name, len(images)) as task:
        for start in range(0, len(images), PART):
            found.append(guard.read(images[start : start + PART]))
            task.advance(len(found[-1][0]))
    return tuple(torch.cat(one) for one in zip(*found, strict=True))
