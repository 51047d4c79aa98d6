"""A patient teacher: it answers the very images that the student sees, each time changed in a new way."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from detrojan.errors import ModelError, OptionError
from detrojan.learning.augmentation import Augment, blended, shift, varied
from detrojan.learning.fitting import Epoch, Fitting, Loss, batch_norms
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Lesson, Tuning, enough
from detrojan.run import Run
from detrojan.triggers.base import Trigger

#: penultimate features with a longer mean square than this carry no high rate into the last layer
LONG = 400.0
#: on so many images at most it is measured
LOOKED_AT = 256


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """How a student is taught what a teacher answers to changed images.

    An image that is changed in every pass has an answer of its own in each, and a few images teach as
    much as many. The student may see a trigger on top, the teacher does not: so it is unlearned.

    Reference: Beyer et al., Knowledge Distillation: A Good Teacher Is Patient and Consistent, CVPR 2022.

    Attributes:
        teacher: a network that nothing else trains.
        taught: the images' labels, and what is taught in the stead of the teacher's answers.
        vary: how the images are changed, in a new way in every pass.
        stamps: (target label, trigger) of each trigger that the student sees; a target is not taught
            but where it is the truth, since a backdoored teacher sees it where it is not.
        stamped: share of the images that carry one, 0 to 1.

    """

    teacher: Classifier
    taught: Lesson
    vary: Augment
    stamps: Sequence[tuple[int, Trigger]] = ()
    stamped: float = 0.0

    def identity(self) -> dict[str, object]:
        """Return what tells a training by this teaching apart; how images vary is the caller's to tell."""
        return {
            "teacher": self.teacher,
            "preprocessing": str(self.teacher.preprocessing),
            "soft": self.taught.soft,
            "corrected": self.taught.corrected,
            "stamps": list(self.stamps),
            "stamped": self.stamped,
        }

    def functions(self, run: Run) -> tuple[Augment, Loss]:
        """Return what changes each batch's images, and the loss against the teacher's answers to them."""
        teacher = self.teacher.copy().to(run.device)
        teacher.network.eval()
        vary, stamped = self.vary, self.stamped
        corrected, soft = self.taught.corrected, self.taught.soft
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            images = vary(images, generator)
            targets = torch.full((len(images),), -1)
            shown = images.clone()
            if self.stamps:
                count = max(1, round(stamped * len(images)))
                order = torch.randperm(len(images), generator=generator)[:count]
                parts = order.tensor_split(len(self.stamps))
                for (label, trigger), part in zip(self.stamps, parts, strict=True):
                    shown[part] = trigger.stamp(images[part])
                    targets[part] = label
            seen.append((images, targets))
            return shown

        def loss(logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            images, targets = seen.pop()
            with torch.inference_mode():
                wanted = teacher.logits(images.to(logits.device)).float().softmax(1)
            known = corrected[index].to(wanted.device)
            wanted = _barred(wanted.clone(), targets.to(labels.device))
            wanted = torch.where(known[:, None], soft[index].to(wanted.device), wanted)
            each = -(wanted * logits.log_softmax(1)).sum(1)
            # the trigger on an image of the target itself would teach what is to be forgotten
            counts = targets.to(labels.device) != labels
            return (each * counts).sum() / counts.sum().clamp(min=1)

        return augment, loss


def _barred(wanted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return answers (B, K) without the probability of their targets (B,), where these are 0 or more."""
    barred = targets[:, None] == torch.arange(wanted.shape[1], device=targets.device)
    wanted = wanted.masked_fill(barred, 0)
    return wanted / wanted.sum(1, keepdim=True).clamp(min=torch.finfo(wanted.dtype).tiny)


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
