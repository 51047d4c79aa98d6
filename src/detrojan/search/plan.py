"""What a search is given, and what it says: the plan, what was found, and what is known before a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from detrojan.errors import OptionError
from detrojan.search.forms import form_named
from detrojan.search.jobs import Job
from detrojan.triggers.base import Trigger


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, and with how many images.

    Args:
        form: "patch", "pixel" or "additive".
        steps: updates of each job's change; 1 or more.
        batch_size: images per update; 2 or more.
        goal: share of a batch that must reach the label for the change to count, in (0, 1].
        rungs: (step, jobs that stay) pairs: at that step only so many jobs go on, the ones with
            the smallest changes; controls stay without being counted.

    Raises:
        OptionError: a value out of its range.

    """

    form: str = "patch"
    steps: int = 80
    batch_size: int = 16
    goal: float = 0.9
    rungs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        form_named(self.form)
        if self.steps < 1 or self.batch_size < 2 or not 0 < self.goal <= 1:
            raise OptionError(
                "expected steps of 1 or more, batch_size of 2 or more and goal in (0, 1], "
                f"got {self.steps}, {self.batch_size} and {self.goal:g}"
            )

    @property
    def cost(self) -> int:
        """Passes of one sample, forward and backward, for a job that no rung takes out."""
        return self.steps * self.batch_size


@dataclass(frozen=True, kw_only=True)
class Found:
    """One job's smallest change that worked.

    Attributes:
        job: what was looked for.
        trigger: the change; the last one tried if none worked.
        size: its size in the form's unit; infinite if none worked.
        steps: updates that were spent.

    """

    job: Job
    trigger: Trigger
    size: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search has found.

    Attributes:
        found: by job; jobs that left at a rung are among them, with fewer steps.
        passes: forward+backward passes of one sample.
        complete: whether every job had its steps; not so where time ran out.

    """

    found: dict[Job, Found] = field(default_factory=dict)
    passes: int = 0
    complete: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What is known of the jobs before a step, for whoever chooses which of them go on.

    Attributes:
        step: steps that were made, for any of the jobs.
        spent: updates of each job (J,).
        first: each job's size when its change worked for the first time (J,); infinite if never.
        best: its smallest size that worked (J,); infinite if none did.
        chosen: places of the jobs that the last step advanced; empty before the first.

    """

    step: int
    spent: torch.Tensor
    first: torch.Tensor
    best: torch.Tensor
    chosen: tuple[int, ...]


#: says which jobs, by their places, the next step advances; none ends the search
Choice = Callable[[Known], Sequence[int]]
