"""What is looked for, and the images and random numbers that each job gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detrojan.errors import DataError
from detrojan.run import Run
from detrojan.triggers.aim import Aim


@dataclass(frozen=True)
class Job:
    """What is looked for: a change of images with this aim.

    Attributes:
        aim: which images are changed, and which label they are to reach.
        start: number of the start; jobs that differ in it alone are tries of one thing.

    """

    aim: Aim
    start: int = 0

    @property
    def target(self) -> int:
        """The label to reach; only a job that has one is asked for it."""
        assert self.aim.target is not None, f"expected a job with a target, got {self.aim}"
        return self.aim.target


def order(job: Job) -> tuple[int, ...]:
    """Return the job as numbers: by these jobs are sorted, and their random streams told apart.

    -1 stands for no label, so that jobs without a source come first.
    """
    labels = (-1 if label is None else label for label in (job.aim.target, job.aim.source))
    return (*labels, job.start, *([job.aim.offset] if job.aim.offset else []))


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
        allowed = job.aim.victims(truth).nonzero().flatten()
        if len(allowed) < 2:
            who = job.aim.sources_in_words()
            raise DataError(f"expected 2 images or more of {who} to search with, got {len(allowed)}")
        own = allowed[torch.randperm(len(allowed), generator=stream(run, job, "images"))]
        rows.append(own[torch.arange(len(truth)) % len(own)])
    return torch.stack(rows)


def goals(truth: torch.Tensor, jobs: Sequence[Job], classes: int) -> torch.Tensor:
    """Return for each job the label that each image is to reach (J, N)."""
    return torch.stack([job.aim.goals(truth, classes) for job in jobs])
