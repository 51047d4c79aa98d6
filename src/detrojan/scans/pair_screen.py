"""Which pairs of labels a faint change of the source's images leads astray: a look before any is searched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from detrojan.judging.outliers import MAD_TO_SIGMA, median
from detrojan.judging.policy import POLICY
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.jobs import Job
from detrojan.search.screen import screen


@dataclass(frozen=True, kw_only=True)
class PairScreen:
    """What a faint change says of all pairs.

    Attributes:
        lead: of the pair that gives way most, how far its margin lies above the second one's, in spreads.
        deviation: how far the same pair stands out from its source, its target and its reverse, in spreads.
        passes: forward+backward passes of one sample.
        complete: whether no pair was left out.

    """

    lead: float
    deviation: float
    passes: int
    complete: bool

    @property
    def silent(self) -> bool:
        """Whether no pair is worth a search."""
        return self.complete and self.lead < POLICY.pair_lead and self.deviation < POLICY.pair_deviation


def screen_pairs(
    model: Classifier,
    images: torch.Tensor,
    truth: torch.Tensor,
    jobs: Sequence[Job],
    *,
    run: Run,
    stop: Callable[[], bool] = lambda: False,
) -> PairScreen:
    """Find for each pair a change of one faint strength that moves a few images of the source to the target.

    Where only one pair has a backdoor, a faint change moves that source's images far, and it does so for
    no other source of that target. So two things are asked of the first pair by margin: is it far ahead of
    all others, or does it stand out once sources, targets and likeness are taken out (median polish)?

    Args:
        model: the network.
        images: (N, C, H, W) in [0, 1].
        truth: their labels, or the network's answers (N,).
        jobs: pairs of a source and a target; three or more.
        run: device, seed, progress.
        stop: where it says yes, the rest is left out.

    """
    seen = screen(
        model,
        images,
        truth,
        [job.target for job in jobs],
        sources=[pair(job)[0] for job in jobs],
        run=run.within("pairs"),
        strength=POLICY.pair_strength,
        steps=POLICY.pair_screen_steps,
        images_each=POLICY.pair_screen_images,
        title="pairs, screening",
        stop=stop,
    )
    if not bool(seen.margins.isfinite().all()):
        return PairScreen(lead=0.0, deviation=0.0, passes=seen.passes, complete=False)
    left = residuals({job: -float(margin) for job, margin in zip(jobs, seen.margins, strict=True)})
    spread = max(1e-6, MAD_TO_SIGMA * median(torch.tensor([abs(value) for value in left.values()])))
    most = seen.margins.topk(2)
    first, second = most.values.tolist()
    return PairScreen(
        lead=(first - second) / spread,
        deviation=-left[jobs[int(most.indices[0])]] / spread,
        passes=seen.passes,
        complete=True,
    )


def pair(job: Job) -> tuple[int, int]:
    """Return a job's source and target."""
    assert job.aim.source is not None
    return job.aim.source, job.target


def residuals(values: Mapping[Job, float]) -> dict[Job, float]:
    """Return what is left of each pair's value without its source's, its target's and its likeness.

    Medians of rows and columns are taken out (median polish), then most of what a pair has in common with
    its reverse where that one is low too: likeness goes both ways, and a backdoor does not.

    Args:
        values: by pair; low is suspicious.

    """
    pairs = {job: pair(job) for job in values}
    rows = {label: place for place, label in enumerate(sorted({source for source, _ in pairs.values()}))}
    columns = {label: place for place, label in enumerate(sorted({target for _, target in pairs.values()}))}
    table = torch.full((len(rows), len(columns)), math.nan, dtype=torch.float64)
    for job, value in values.items():
        source, target = pairs[job]
        table[rows[source], columns[target]] = value
    for _ in range(POLICY.polishes):
        table = table - torch.nanmedian(table, 1, keepdim=True).values
        table = table - torch.nanmedian(table, 0, keepdim=True).values
    scores = {}
    for job, (source, target) in pairs.items():
        reverse = 0.0
        if target in rows and source in columns:
            reverse = float(table[rows[target], columns[source]])
        scores[job] = float(table[rows[source], columns[target]]) - POLICY.mutual * min(0.0, reverse)
    return scores
