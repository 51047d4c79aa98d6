"""A patient teacher: it answers the very images that the student sees, each time changed in a new way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detrojan.learning.augmentation import Augment
from detrojan.learning.fitting import Loss
from detrojan.models.classifier import Classifier
from detrojan.repairs.lessons import Lesson
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
        taught: the images' labels, and what is taught instead of the teacher's answers.
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
