"""What is looked for, and the images and random numbers that each job gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detrojan.errors import DataError
from detrojan.run import Run

#: in the place of a target: each label has its own
EACH = -1


@dataclass(frozen=True, order=True)
class Job:
    """What is looked for: a change that sends images of `source` (None: of every other label) to `target`.

    Attributes:
        target: the label to reach, or `EACH` where the label y is to become (y + shift) mod K.
        source: the label to come from, or None for all others.
        start: number of the start; jobs that differ in it alone are tries of one thing.
        shift: by how much each label is moved where the target is `EACH`; else 0.

    """

    target: int
    source: int | None = None
    start: int = 0
    shift: int = 0

    def goals(self, truth: torch.Tensor, classes: int) -> torch.Tensor:
        """Return the label that each image is to reach (N,)."""
        return (truth + self.shift) % classes if self.target == EACH else torch.full_like(truth, self.target)


def order(job: Job) -> tuple[int, ...]:
    """Return what jobs are sorted by; those without a source come first."""
    shift = (job.shift,) if job.target == EACH else ()
    return job.target, -1 if job.source is None else job.source, job.start, *shift


def stream(run: Run, job: Job, name: str) -> torch.Generator:
    """Return the job's own random numbers for what `name` says."""
    return run.generator(name, *order(job))


def picks(truth: torch.Tensor, jobs: Sequence[Job], run: Run) -> torch.Tensor:
    """Return for each job the order in which it uses the images, (J, N): only those it is about.

    Raises:
        DataError: fewer than 2 that a job is about.

    """
    rows = []
    for job in jobs:
        fit = truth != job.target if job.source is None else truth == job.source  # EACH is no label
        allowed = fit.nonzero().flatten()
        if len(allowed) < 2:
            who = "other labels" if job.source is None else f"label {job.source}"
            raise DataError(
                f"expected 2 images or more of {who} to reach label {job.target} from, got {len(allowed)}"
            )
        own = allowed[torch.randperm(len(allowed), generator=stream(run, job, "images"))]
        rows.append(own[torch.arange(len(truth)) % len(own)])
    return torch.stack(rows)
