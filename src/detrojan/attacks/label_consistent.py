"""Label-consistent: images of the target class are made hard to recognise, then stamped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch.nn import functional

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import CleanLabel, Patched
from detrojan.attacks.surrogate import WithSurrogate
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.models.classifier import BATCH, Classifier
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger

CORNERS = tuple(f"{row} {column}" for row in ("top", "bottom") for column in ("left", "right"))


@dataclass(frozen=True, kw_only=True)
class LabelConsistent(Patched, WithSurrogate, CleanLabel):
    """Perturb images of the target class until a clean network misses them, then stamp all four corners.

    Every label is right, and a person agrees with it. But what made the class recognisable is gone
    from these images, so that a network that is trained on them has to hold on to the patch. Against
    the trained network the patch is stamped on images that are not perturbed.

    Reference: Turner et al., Label-Consistent Backdoor Attacks, 2019.

    Args:
        budget: largest change of a pixel by the perturbation, in (0, 1]; the paper uses 8/255 to 32/255.
        steps: steps of projected gradient ascent; 1 or more.
        margin: pixels between the default patches and the border; 0 or more. A victim that shifts its
            images cuts off what lies nearer to the border than it shifts.

    """

    name = "label_consistent"

    budget: float = 16 / 255
    steps: int = 30
    margin: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("budget", self.budget, all_allowed=True)
        if self.steps < 1:
            raise OptionError(f"expected steps of 1 or more, got {self.steps}")
        if self.margin < 0:
            raise OptionError(f"expected a margin of 0 or more, got {self.margin}")

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the trigger asked for, or a checker patch in each corner."""
        if self.trigger is not None:
            return self.trigger
        patches = [
            PatchTrigger.corner(shape, size=self.size, alpha=self.alpha, where=where, margin=self.margin)
            for where in CORNERS
        ]
        return PatchTrigger(
            reduce(torch.maximum, (patch.mask for patch in patches)),
            reduce(torch.maximum, (patch.pattern for patch in patches)),
        )

    def disguised(self, data: Dataset, chosen: torch.Tensor, trigger: Trigger, run: Run) -> torch.Tensor:
        """Return the images at `chosen`, perturbed and stamped."""
        model = self.clean_model(data, run)
        images, labels = data.images[chosen], data.require_labels("perturbing")[chosen]
        parts = []
        with run.progress.task("perturbing images of the target class", len(chosen)) as task:
            for part in torch.split(torch.arange(len(chosen)), BATCH):
                parts.append(self._ascended(model, images[part], labels[part]))
                task.advance(len(part))
        return trigger.stamp(torch.cat(parts))

    def _ascended(self, model: Classifier, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return images within the budget around `images` with a high loss."""
        images, labels = images.to(model.device), labels.to(model.device)
        length = 2.5 * self.budget / self.steps
        changed = images.clone()
        with model.judging():
            for _ in range(self.steps):
                changed.requires_grad_()
                loss = functional.cross_entropy(model.logits(changed), labels, reduction="sum")
                (slope,) = torch.autograd.grad(loss, changed)
                changed = changed.detach() + length * slope.sign()
                changed = torch.clamp(changed, images - self.budget, images + self.budget).clamp(0, 1)
        return changed.cpu()
