"""Where in the image would a small trigger lie? A window for each place, in which only the picture is learnt.

A search that begins with a faint mask over the whole image may never find a trigger of a few pixels:
what the network sees elsewhere drowns it. Looked for in the right place it is found in a few steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from detrojan.errors import OptionError
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.asking import Asking
from detrojan.search.forms import Patch
from detrojan.search.jobs import Job, goals, picks, stream

#: the mask's logit within a window, and elsewhere
INSIDE, OUTSIDE = 1.5, -5.0
#: windows overlap by so many pixels, lest a trigger is cut by their borders
OVERLAP = 2
#: steps and images of the first look, at all windows, and of the second, at the better ones
FIRST_LOOK, SECOND_LOOK = (4, 4), (8, 8)
#: of how many windows one is looked at again
ONE_IN = 4


@dataclass(frozen=True, eq=False)
class Windows:
    """What the windows say of each job.

    Attributes:
        jobs: those that were looked at (J).
        losses: mean cross entropy in each job's better windows, the best first (J, W).
        raw: what a search for a patch begins with there (J, W, H * W, 1 + C).
        places: numbers of these windows, counted by rows (J, W).
        passes: forward+backward passes of one sample.

    """

    jobs: tuple[Job, ...]
    losses: torch.Tensor
    raw: torch.Tensor
    places: torch.Tensor
    passes: int

    def starts(self, count: int, first: int = 1) -> dict[Job, torch.Tensor]:
        """Return the best `count` windows of each job as starts of its search, numbered from `first`."""
        return {
            replace(job, start=first + number): self.raw[place, number]
            for place, job in enumerate(self.jobs)
            for number in range(min(count, self.raw.shape[1]))
        }


class _Windows:
    """One network, and the windows of its images."""

    def __init__(self, model: Classifier, images: torch.Tensor, grid: int, run: Run) -> None:
        self.asking, self.form, self.run = Asking(model, run), Patch(), run
        self.shape = model.input_shape
        self.images = self.asking.flat(images)
        self.masks = _masks(self.shape, grid).to(self.asking.device)
        self.passes = 0

    def begin(self, jobs: Sequence[Job]) -> torch.Tensor:
        """Return a random picture for each job in each window (J, W, H * W, 1 + C)."""
        rows = [self.form.start(self.shape, stream(self.run, job, "window")) for job in jobs]
        raw = torch.stack(rows).to(self.asking.device)[:, None].repeat(1, len(self.masks), 1, 1)
        raw[..., 0] = self.masks
        return raw

    def look(
        self, raw: torch.Tensor, wanted: torch.Tensor, images: torch.Tensor, steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn the pictures (J, H * W, 1 + C) for `images` (J, B, H * W * C); return losses too.

        A pass takes as many samples as is fastest, but a picture's own: more only fill the memory.
        """
        at_once = max(1, self.asking.pace.samples // images.shape[1])
        parts = [slice(first, first + at_once) for first in range(0, len(raw), at_once)]
        found = [self._learn(raw[part], wanted[part], images[part], steps) for part in parts]
        return torch.cat([learnt for learnt, _ in found]), torch.cat([losses for _, losses in found])

    def _learn(
        self, raw: torch.Tensor, wanted: torch.Tensor, images: torch.Tensor, steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Do so for pictures that fit into one pass."""
        mask, memory = raw[..., 0].clone(), self.form.begin(raw)
        out = torch.empty_like(images)
        losses = torch.zeros(len(raw), device=raw.device)
        for step in range(steps):
            self.form.stamp(raw, images, out)
            share, losses, by_pixel = self.asking.slope(out, wanted)
            slope = self.form.slope(raw, by_pixel, images, out)
            raw = self.form.descend(raw, slope, share > 1, memory, step)
            raw[..., 0] = mask
        self.passes += steps * images.shape[0] * images.shape[1]
        return raw, losses


def _masks(shape: tuple[int, int, int], grid: int) -> torch.Tensor:
    """Return the masks' logits (grid * grid, H * W), evenly spread and a little overlapping."""
    _, height, width = shape
    tall, wide = (min(side, -(-side // grid) + OVERLAP) for side in (height, width))
    masks = torch.full((grid * grid, height, width), OUTSIDE)
    for number, mask in enumerate(masks):
        row, column = divmod(number, grid)
        top, left = round(row * (height - tall) / (grid - 1)), round(column * (width - wide) / (grid - 1))
        mask[top : top + tall, left : left + wide] = INSIDE
    return masks.flatten(1)


def windows(
    model: Classifier,
    images: torch.Tensor,
    truth: torch.Tensor,
    jobs: Sequence[Job],
    *,
    run: Run,
    grid: int = 4,
    title: str = "windows",
    stop: Callable[[], bool] = lambda: False,
) -> Windows:
    """Look for each job's trigger in `grid` * `grid` windows that cover the image.

    Args:
        model: the network; unchanged.
        images: clean images (N, C, H, W) in [0, 1].
        truth: their labels, or the network's answers (N,).
        jobs: what to look for.
        run: device, seed, progress.
        grid: windows per side; 2 or more.
        title: what the progress shows.
        stop: asked between jobs; where it says yes, the rest is left out.

    Raises:
        DataError: images of another shape, or fewer than 2 that a job is about.
        OptionError: a grid below 2.

    """
    if grid < 2:
        raise OptionError(f"expected a grid of 2 windows per side or more, got {grid}")
    model.check(images)
    work = _Windows(model, images, grid, run)
    order = picks(truth, jobs, run)
    wanted = goals(truth, jobs, model.num_classes).gather(1, order)
    order, wanted = order.to(work.asking.device), wanted.to(work.asking.device)
    kept = max(1, grid * grid // ONE_IN)
    at_once = max(1, work.asking.pace.samples // (grid * grid * FIRST_LOOK[1]))
    results: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    done = 0
    with run.progress.task(title, len(jobs)) as task, work.asking.at_work():
        for first in range(0, len(jobs), at_once):
            if stop():
                break
            part = slice(first, first + at_once)
            results.append(_best(work, jobs[part], order[part], wanted[part], kept))
            done += len(jobs[part])
            task.advance(len(jobs[part]))
    if not results:
        none = torch.zeros(0, kept)
        return Windows((), none, none, none, 0)
    losses, raw, places = (torch.cat(parts).cpu() for parts in zip(*results, strict=True))
    return Windows(tuple(jobs[:done]), losses, raw, places, work.passes)


def _best(
    work: _Windows, jobs: Sequence[Job], order: torch.Tensor, wanted: torch.Tensor, kept: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return losses, raw numbers and places of each job's best windows."""
    count = len(jobs)

    def look(raw: torch.Tensor, steps: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        each = raw.shape[1]
        images = work.images[order[:, :size]].repeat_interleave(each, 0)
        labels = wanted[:, :size].repeat_interleave(each, 0)
        learnt, losses = work.look(raw.flatten(0, 1), labels, images, steps)
        return learnt.view_as(raw), losses.view(count, each)

    raw, losses = look(work.begin(jobs), *FIRST_LOOK)
    places = losses.argsort(1)[:, :kept]
    rows = torch.arange(count, device=order.device)[:, None]
    raw, losses = look(raw[rows, places], *SECOND_LOOK)
    ranks = losses.argsort(1)
    return losses.gather(1, ranks), raw[rows, ranks], places.gather(1, ranks)
