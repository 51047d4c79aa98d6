"""What every guard of a running model shares: calibrated once, it judges inputs one by one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from detrojan.data.dataset import Dataset
from detrojan.data.in_memory import as_images
from detrojan.guards.tail import interval
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Calibrated(ABC):
    """A guard bound to one model, its threshold set on clean inputs.

    Attributes:
        model: the network that is guarded; unchanged.
        method: what it was calibrated with.
        threshold: an input whose score is at or above it is called backdoored, and so is one whose score is
            no finite number, since whoever made the network can make it overflow.
        clean_scores: scores of the clean inputs that the threshold was set on, (N,), float64.
        warnings: what the owner must know, e.g. that a fit is poor.

    """

    #: what the score is made of, for people, and whether a low (-1) or a high (1) one is suspicious
    statistic: ClassVar[str] = "score"
    sign: ClassVar[int] = 1

    model: Classifier = field(repr=False)
    method: Guard
    threshold: float
    clean_scores: torch.Tensor = field(repr=False)
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Say in one line what it refuses, and on how many inputs that was set."""
        side = "at or below" if self.sign < 0 else "at or above"
        article = "an" if self.statistic[0] in set("aeiou") else "a"
        said = f"refuses {article} {self.statistic} {side} {self.threshold * self.sign:.3g}"
        return f"{type(self).__name__}({said}, set on {len(self.clean_scores):,} clean inputs)"

    @abstractmethod
    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return one score per image (N,), float64, higher where more suspicious."""

    @abstractmethod
    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the tensors and plain values that `Guard.restored` needs beside the common ones."""

    def supported(self) -> tuple[float, float]:
        """Return between which rates the FRR on further clean inputs lies, with a confidence of 90%.

        It is the interval of Clopper and Pearson for how many of the clean scores reach the threshold. It
        takes no shape of the scores for granted.
        """
        reached = int(self.suspicious(self.clean_scores).sum())
        return interval(reached, len(self.clean_scores))

    def clean_images(self) -> torch.Tensor:
        """Return the clean images that the guard holds, (M, C, H, W) in [0, 1]; none where it needs none."""
        return torch.zeros(0, *self.model.input_shape)

    def suspicious(self, scores: torch.Tensor) -> torch.Tensor:
        """Return which scores (N,) are called backdoored, (N,) bool."""
        return (scores >= self.threshold) | ~scores.isfinite()

    def refuses(self, images: Any) -> torch.Tensor:
        """Return which images are called backdoored, (N,) bool.

        Args:
            images: (N, C, H, W) in [0, 1], or what `Classifier.predict` takes besides.

        """
        return self.suspicious(self.score(as_images(images, self.model.input_shape)))

    def blamed(self, images: torch.Tensor) -> list[str]:
        """Return the part of the guard that finds each image most suspicious; empty where there are none."""
        return [""] * len(images)

    def answers_with_class(self, images: Any) -> torch.Tensor:
        """Return the labels (N,) of images as for `refuses`, the number of classes for "backdoored"."""
        images = as_images(images, self.model.input_shape)
        labels = self.model.answers(images)
        labels[self.refuses(images)] = self.model.num_classes
        return labels


@dataclass(frozen=True, kw_only=True)
class Guard(Method, ABC):
    """Base of the guards: each learns from a model and clean inputs what is usual."""

    #: one sentence for people: which triggers get past it, by what was measured
    lets_through: ClassVar[str] = ""

    @abstractmethod
    def calibrate(self, model: Classifier, clean: Dataset, *, run: Run) -> Calibrated:
        """Return a guard for `model`, its threshold set on `clean` images (labels are not used)."""

    @abstractmethod
    def restored(self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any) -> Calibrated:
        """Rebuild a calibrated guard from its `state`; both come from outside and are checked.

        Args:
            common: the fields of `Calibrated`.
            tensors: as `Calibrated.state` gave them.
            values: as `Calibrated.state` gave them, as JSON has them.

        Raises:
            DataError: they are not what this guard wrote.

        """


def is_finite(value: Any) -> bool:
    """Return whether a value out of JSON is a number that a float can hold."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):  # no number; an integer beyond every float
        return False
