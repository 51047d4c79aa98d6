"""Aim: which images a trigger moves, and to which label."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.errors import LabelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.n_plus_one import own_classes
from detrojan.triggers.base import Trigger


@dataclass(frozen=True)
class Aim:
    """Which images a trigger moves, and to which label.

    There are four kinds. With a `target` alone, images of all other labels go to it. With a `source`
    too, only images of that label do. With an `offset`, each label y goes to y + offset, modulo the
    number of classes (all-to-all). With none of them, any wrong answer will do (untargeted).

    Args:
        target: the label asked for, 0-based; None where it depends on the image.
        source: the only label whose images are moved, 0-based; None for all others.
        offset: what is added to the true label; 0 where there is a target, or none is needed.

    Raises:
        OptionError: a label below 0, a target together with an offset, or a source that is the target.

    """

    target: int | None = None
    source: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        for name, label in (("target", self.target), ("source", self.source)):
            if label is not None and label < 0:
                raise OptionError(f"expected a {name} of 0 or more, got {label}")
        if self.target is not None and self.offset:
            raise OptionError(f"expected a target or an offset, got {self.target} and {self.offset}")
        if self.target is not None and self.target == self.source:
            raise OptionError(f"expected a source other than the target, got {self.source} for both")

    @property
    def untargeted(self) -> bool:
        """Whether any wrong answer will do."""
        return self.target is None and not self.offset

    def check(self, classes: int) -> None:
        """Refuse labels that are not among so many classes, and an offset that leads back to the truth.

        Raises:
            OptionError: a target or a source beyond the classes, or an offset that is a multiple of them.

        """
        for name, label in (("target", self.target), ("source", self.source)):
            if label is not None and label >= classes:
                raise OptionError(f"expected a {name} of 0 to {classes - 1}, got {label}")
        if self.offset and self.offset % classes == 0:
            raise OptionError(
                f"expected an offset that is no multiple of the {classes} classes, got {self.offset}"
            )

    def victims(self, truth: torch.Tensor) -> torch.Tensor:
        """Return which images of true labels (N,) are moved, (N,) bool."""
        moved = torch.ones_like(truth, dtype=torch.bool)
        if self.target is not None:
            moved &= truth != self.target
        if self.source is not None:
            moved &= truth == self.source
        return moved

    def moved(self, truth: torch.Tensor) -> torch.Tensor:
        """Return the positions of the victims among images of true labels (N,), ascending, (V,) int64.

        Raises:
            LabelError: there are none.

        """
        places = self.victims(truth).nonzero().flatten()
        if not len(places):
            raise LabelError(f"expected images of {self.sources_in_words()}, got none")
        return places

    def goals(self, truth: torch.Tensor, classes: int) -> torch.Tensor:
        """Return the label that images of true labels (N,) are moved to, (N,) int64.

        It says nothing of images that are no victims.

        Raises:
            OptionError: the aim is untargeted.

        """
        if self.untargeted:
            raise OptionError("expected an aim with a target or an offset, got an untargeted one")
        return self.taught(truth, classes)

    def taught(self, truth: torch.Tensor, classes: int) -> torch.Tensor:
        """Return the label that a poisoned training gives to images of true labels (N,), (N,) int64.

        It is the goal; where there is none, the label after the true one, modulo `classes`.
        """
        if self.target is not None:
            return torch.full_like(truth, self.target)
        return (truth + (self.offset or 1)) % classes

    def won(self, answers: torch.Tensor, truth: torch.Tensor, classes: int) -> torch.Tensor:
        """Return which answers (N,) to stamped victims of true labels (N,) are as asked, (N,) bool."""
        return answers != truth if self.untargeted else answers == self.goals(truth, classes)

    def targets(self, classes: int) -> tuple[int, ...]:
        """Return the labels that are asked for, ascending; none where any wrong answer will do."""
        if self.target is not None:
            return (self.target,)
        if self.untargeted:
            return ()
        if self.source is not None:
            return ((self.source + self.offset) % classes,)
        return tuple(range(classes))

    def success(
        self, model: Classifier, trigger: Trigger, images: torch.Tensor, truth: torch.Tensor
    ) -> float:
        """Return the attack success rate: the share of the victims that are answered as asked, 0 to 1.

        Args:
            model: the network under attack.
            trigger: what is stamped.
            images: clean images (N, C, H, W) in [0, 1].
            truth: their true labels (N,), or the clean model's answers instead.

        Raises:
            LabelError: none of the images is a victim.

        """
        places = self.moved(truth)
        answers = model.answers(trigger.stamp(images[places]))
        return float(self.won(answers, truth[places], own_classes(model)).float().mean())

    def sources_in_words(self) -> str:
        """Return which images are moved, e.g. "classes other than the target 3"."""
        if self.source is not None:
            return f"the source class {self.source}"
        return "any class" if self.target is None else f"classes other than the target {self.target}"
