"""Looks at a search under way: it ends as soon as what it has found settles the matter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from detrojan.search.jobs import Job
from detrojan.search.plan import Known


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Says before each step which jobs go on: all of them, or none once the matter is settled.

    All jobs have then had the same number of steps, so that their sizes can still be compared.

    Args:
        jobs: that are searched, in their order.
        steps: after which it looks.
        settled: whether sizes by job settle the matter; infinite where nothing works yet.

    """

    jobs: Sequence[Job]
    steps: Collection[int]
    settled: Callable[[Mapping[Job, float]], bool]

    def __call__(self, known: Known) -> Sequence[int]:
        """Return the places of the jobs that go on."""
        if known.step in self.steps and self.settled(dict(zip(self.jobs, known.best.tolist(), strict=True))):
            return ()
        return range(len(self.jobs))
