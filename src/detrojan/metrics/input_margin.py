"""How far a label can win over all others with any image at all: the statistic of MM-BD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: images that are optimised together
BATCH = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class InputMargins:
    """The greatest margins that were found.

    Attributes:
        margins: per label tested (T,), the greatest of its starts, in logits.
        images: the image that gave it, (T, C, H, W) in [0, 1].
        passes: forward+backward passes of one sample that were spent.

    """

    margins: torch.Tensor
    images: torch.Tensor
    passes: int


def input_margins(
    model: Classifier,
    labels: Sequence[int],
    *,
    run: Run,
    starts: int = 8,
    steps: int = 60,
    step_size: float = 0.02,
) -> InputMargins:
    """Maximise each label's logit minus the highest other one over all images; no data are needed.

    Each label has `starts` uniformly random images, ascended by signed gradients that are clipped to
    [0, 1]; a start's steps shorten linearly to a tenth.

    Args:
        model: the network, with at least two classes.
        labels: which ones.
        run: device, seed and progress.
        starts: random images per label; 1 or more.
        steps: of the ascent; 1 or more.
        step_size: of the first step, in the images' units; above 0.

    """
    targets = torch.tensor([label for label in labels for _ in range(starts)])
    found, made = [], []
    with run.progress.task("maximum margins", len(targets) * steps) as task, model.judging():
        for first in range(0, len(targets), BATCH):
            part = targets[first : first + BATCH]
            random = [run.generator("mm_bd", int(t), n) for t, n in _numbered(part, first, starts)]
            images = torch.stack([torch.rand(model.input_shape, generator=one) for one in random])
            margins, images = _ascend(model, images.to(model.device), part, steps, step_size)
            found.append(margins)
            made.append(images)
            task.advance(len(part) * steps)
    margins, images = torch.cat(found).reshape(len(labels), starts), torch.cat(made)
    best = margins.argmax(1)
    chosen = images[torch.arange(len(labels)) * starts + best]
    return InputMargins(margins=margins.max(1).values, images=chosen, passes=len(targets) * (steps + 1))


def _numbered(part: torch.Tensor, first: int, starts: int) -> list[tuple[int, int]]:
    return [(int(label), (first + place) % starts) for place, label in enumerate(part)]


def _ascend(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, steps: int, step_size: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the greatest margin that each image reached (N,), and the image that did (N, C, H, W)."""
    aim = targets.to(images.device)[:, None]
    best = torch.full((len(images),), -torch.inf, device=images.device)
    kept = images
    for step in range(steps + 1):
        images = images.detach().requires_grad_(step < steps)
        logits = model.logits(images)
        own = logits.gather(1, aim)[:, 0]
        margin = own - logits.scatter(1, aim, -torch.inf).max(1).values
        better = margin.detach() > best
        best = torch.where(better, margin.detach(), best)
        kept = torch.where(better[:, None, None, None], images.detach(), kept)
        if step < steps:
            (slope,) = torch.autograd.grad(margin.sum(), images)
            length = step_size * (1 - 0.9 * step / steps)
            images = (images.detach() + length * slope.sign()).clamp(0, 1)
    return best.cpu(), kept.cpu()
