"""Repairs in which the delivered network teaches copies of itself, at a rate that suits them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch

from detrojan.errors import ModelError, OptionError
from detrojan.learning.augmentation import Augment, blended, shift, varied
from detrojan.learning.fitting import Epoch, Fitting, batch_norms
from detrojan.models.classifier import Classifier
from detrojan.repairs.lessons import Lesson
from detrojan.repairs.teaching import Teaching
from detrojan.repairs.tuning import Tuning, enough
from detrojan.run import Run

#: penultimate features with a longer mean square than this carry no high rate into the last layer
LONG = 400.0
#: on so many images at most it is measured
LOOKED_AT = 256


@dataclass(frozen=True, kw_only=True)
class PatientTuning(Tuning, ABC):
    """Base of the repairs in which the delivered network teaches copies of itself what it answers.

    A network with batch norms bears a rate a hundred times as high as another: no layer's answers
    depend on how long the weights before it are. With SGD at such a rate, and with statistics that are
    trained too, it moves far away from where it was, and from its backdoor, while the teacher
    keeps its answers to clean images. A network without batch norms is tuned by Adam, carefully, its
    statistics as they are; so is one whose last layer, which no batch norm follows, gets features so long
    that each update at the high rate would throw its answers about.

    A subclass states its own defaults and documents all fields.
    """

    learning_rate: float = 1e-3
    norm_rate: float = 0.15
    updates: int = 200
    norm_updates: int = 800
    shift_pixels: int = 2
    norm_shift_pixels: int = 4

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not self.norm_rate > 0:
            raise OptionError(f"expected a norm_rate above 0, got {self.norm_rate:g}")
        counts = (self.updates, self.norm_updates, self.shift_pixels, self.norm_shift_pixels)
        if min(counts) < 0:
            raise OptionError(
                "expected updates, norm_updates, shift_pixels and norm_shift_pixels of 0 or more, "
                f"got {', '.join(map(str, counts))}"
            )

    def slower(self, times: float) -> Self:
        """Return the same plan at rates so many times lower."""
        return replace(super().slower(times), norm_rate=self.norm_rate / times)

    def fitting_for(self, model: Classifier, images: torch.Tensor) -> Fitting:
        """Return how to train a network like `model` on `images`."""
        bold = bears_a_high_rate(model, images)
        updates = self.norm_updates if bold else self.updates
        how = replace(self.fitting(), epochs=enough(self.epochs, updates, len(images), self.batch_size))
        if not bold:
            return how
        return replace(how, optimizer="sgd", learning_rate=self.norm_rate, frozen_norm=False)

    def changes(self, model: Classifier, images: torch.Tensor) -> Augment:
        """Return how `images` are changed on which a network like `model` is taught."""
        if bears_a_high_rate(model, images):
            return varied(self.norm_shift_pixels)
        return blended(shift(self.shift_pixels))

    def teach(
        self,
        student: Classifier,
        teacher: Classifier,
        taught: Lesson,
        *,
        run: Run,
        title: str,
        beside: Callable[[], torch.Tensor] | None = None,
        depends: Mapping[str, object] | None = None,
    ) -> list[Epoch]:
        """Train `student` in place on what `teacher` answers to the lesson's images."""
        return self.tune(
            student,
            taught.images,
            taught,
            run=run,
            title=title,
            teaching=Teaching(teacher=teacher, taught=taught, vary=self.changes(teacher, taught.images)),
            how=self.fitting_for(teacher, taught.images),
            beside=beside,
            depends=depends,
        )


def bears_a_high_rate(model: Classifier, images: torch.Tensor) -> bool:
    """Return whether batch norms let a network be tuned at a high rate.

    They make up for the length of the weights before them, but the last layer has none behind it: there an
    update moves the answers by the rate times the features' squared length.
    """
    if not batch_norms(model.network):
        return False
    try:
        features = model.activations(images[:LOOKED_AT])
    except ModelError:  # no linear layer at the end
        return True
    return float(features.flatten(1).float().square().sum(1).mean()) <= LONG
