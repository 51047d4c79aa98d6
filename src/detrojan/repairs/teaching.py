"""A patient teacher: it answers the very images that the student sees, each time changed in a new way."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from detrojan.augmentation import Augment, blended, shift, varied
from detrojan.errors import OptionError
from detrojan.fitting import Epoch, Fitting, Loss, batch_norms
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Lesson, Tuning, enough
from detrojan.run import Run
from detrojan.triggers.base import Trigger


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

    def functions(self, run: Run) -> tuple[Augment, Loss]:
        """Return what changes each batch's images, and the loss against the teacher's answers to them."""
        teacher = self.teacher.copy().to(run.device)
        teacher.network.eval()
        # not self: a training's checkpoint is told apart by the values that its functions enclose
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
    keeps its answers to clean images. A network without batch norms is tuned by Adam, carefully.

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

    def fitting_for(self, model: Classifier, images: int) -> Fitting:
        """Return how to train a network like `model` on so many images."""
        normed = bool(batch_norms(model.network))
        updates = self.norm_updates if normed else self.updates
        how = replace(self.fitting(), epochs=enough(self.epochs, updates, images, self.batch_size))
        if not normed:
            return how
        return replace(how, optimizer="sgd", learning_rate=self.norm_rate, frozen_norm=False)

    def changes(self, model: Classifier) -> Augment:
        """Return how the images are changed on which a network like `model` is taught."""
        if batch_norms(model.network):
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
    ) -> list[Epoch]:
        """Train `student` in place on what `teacher` answers to the lesson's images."""
        return self.tune(
            student,
            taught.images,
            taught,
            run=run,
            title=title,
            teaching=Teaching(teacher=teacher, taught=taught, vary=self.changes(teacher)),
            how=self.fitting_for(teacher, len(taught.images)),
            beside=beside,
        )
