"""Backdoors that no label shows by itself: all-to-all (y becomes y + 1), source-specific (only 4 to 7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from detrojan.judging.outliers import MAD_TO_SIGMA, deviations_below, median, small_p_values
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.pair_screen import residuals, screen_pairs
from detrojan.search.engine import search
from detrojan.search.jobs import Job
from detrojan.search.plan import Found, Plan
from detrojan.search.windows import windows
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger


@dataclass(frozen=True, kw_only=True)
class PairEvidence:
    """What is known of one job.

    Attributes:
        job: a shift of all labels, or a source and a target.
        ratio: its statistic over the usual one.
        p_value: corrected for all jobs that were looked at, 0 to 1.
        index: robust standard deviations below the usual statistic, 0 or more.
        success: share of held-out images that arrive, 0 to 1.
        size: of the patch, in pixels; infinite where none worked, if it leads to one label.
        trigger: the patch.

    """

    job: Job
    ratio: float
    p_value: float
    index: float
    success: float
    size: float
    trigger: Trigger

    def facts(self) -> dict[str, Any]:
        """Return the figures, for a report."""
        aim = self.job.aim
        named = {"shift": aim.offset} if aim.offset else {"source": aim.source, "target": aim.target}
        return {
            **named,
            "p_value": self.p_value,
            "ratio": self.ratio,
            "attack_success": self.success,
            "size": self.size if math.isfinite(self.size) else None,
        }


def told(flagged: Sequence[PairEvidence]) -> str:
    """Return in words which labels the flagged triggers lead from and to."""
    if shift := flagged[0].job.aim.offset:
        return f"one small trigger moves every label y to y + {shift} (all to all)"
    pairs = ", ".join(f"{entry.job.aim.source} to {entry.job.aim.target}" for entry in flagged)
    return f"an abnormally small trigger leads from label {pairs} (source-specific)"


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """What one of the two looks says.

    Attributes:
        what: "all to all" or "source to target".
        evidence: the strongest first.
        passes: forward+backward passes of one sample.
        complete: whether nothing was cut short.
        confirm: attack success that a flagged change must reach.
        most: share of the usual statistic above which nothing is flagged, 0 to 1.
        largest: size in pixels above which nothing is flagged.

    """

    what: str
    evidence: tuple[PairEvidence, ...]
    passes: int
    complete: bool
    confirm: float
    most: float = 1.0
    largest: float = math.inf

    def flagged(self, significance: float, ratio: float) -> list[PairEvidence]:
        """Return the evidence that is strong enough."""
        return [
            entry
            for entry in self.evidence
            if entry.p_value < significance
            and entry.ratio <= min(ratio, self.most)
            and entry.success >= self.confirm
            and not entry.size > self.largest
        ]


def look_at_shifts(
    model: Classifier,
    ready: Prepared,
    *,
    run: Run,
    stop: Callable[[], bool] = lambda: False,
    largest: float = math.inf,
) -> Pairwise:
    """Search one patch that moves every label y to y + k, for several k at once.

    Without a backdoor no patch moves every label in step, whatever the k: the odds of failing on held-out
    images are compared with those of the other k by a moderated t-test, corrected for all of them. Where
    there are few labels, a patch over most of the image moves some of them in step by nature. So a flagged
    one is also no larger than what usually leads to a single label.

    Args:
        model: the network.
        ready: images, and what stands in for their truth.
        run: device, seed, progress.
        stop: where it says yes, the search ends.
        largest: pixels of the usual patch that leads to a single label.

    """
    classes = model.num_classes
    shifts = list(range(1, classes))
    if len(shifts) > POLICY.most_shifts:
        drawn = (
            torch.randperm(len(shifts) - 1, generator=run.generator("shifts"))[: POLICY.most_shifts - 1] + 2
        )
        shifts = [1, *sorted(drawn.tolist())]
    jobs = [Job(Aim(offset=shift)) for shift in shifts]
    images, truth = ready.search
    seen = windows(model, images, truth, jobs, run=run, title="all to all, windows", stop=stop)
    starts = seen.starts(1)
    whole, best = len(seen.jobs) == len(jobs), seen.losses[:, 0]
    if not whole or float(best.min()) > POLICY.shift_lead * median(best):
        return Pairwise(
            what="all to all", evidence=(), passes=seen.passes, complete=whole, confirm=POLICY.confirm_shift
        )
    plan = Plan(form="patch", steps=POLICY.shift_steps, goal=POLICY.shift_goal)
    found = search(
        model, images, truth, list(starts), plan, run=run, starts=starts, title="all to all", stop=stop
    )
    return Pairwise(
        what="all to all",
        evidence=_shift_evidence(model, ready, found.found),
        passes=seen.passes + found.passes,
        complete=found.complete,
        confirm=POLICY.confirm_shift,
        largest=largest,
    )


def _shift_evidence(
    model: Classifier, ready: Prepared, found: Mapping[Job, Found]
) -> tuple[PairEvidence, ...]:
    """Return what is known of each shift, the strongest first."""
    held, goal = ready.held_out
    jobs = list(found)
    success = torch.tensor([job.aim.success(model, found[job].trigger, held, goal) for job in jobs])
    odds = (1 - success).clamp(min=0.5 / len(held)) / success.clamp(min=0.5 / len(held))
    chances = small_p_values(odds, _not_small(odds))
    usual = median(odds[_not_small(odds)])
    evidence = [
        PairEvidence(
            job=job,
            ratio=float(odds[place]) / usual,
            p_value=min(1.0, float(chances[place]) * len(jobs)),
            index=deviations_below(float(odds[place]), odds[_not_small(odds)]),
            success=float(success[place]),
            size=_pixels(found[job].trigger),
            trigger=found[job].trigger,
        )
        for place, job in enumerate(jobs)
    ]
    return tuple(sorted(evidence, key=lambda entry: (entry.p_value, entry.ratio)))


def _pixels(trigger: Trigger) -> float:
    """Return a patch's size, whether it works or not."""
    return trigger.l1 if isinstance(trigger, PatchTrigger) else math.inf


def _not_small(odds: torch.Tensor) -> torch.Tensor:
    return odds > POLICY.usual_odds * median(odds)


def look_at_pairs(
    model: Classifier, ready: Prepared, *, run: Run, stop: Callable[[], bool] = lambda: False
) -> Pairwise:
    """Search the smallest patch for every pair of a source and a target, if a faint change tells of any.

    Some sources give way easily and some targets are easily reached; that is taken out of the logarithms
    of the sizes first (median polish), and most of what a pair has in common with its reverse, since
    likeness goes both ways and a backdoor does not. What is left is compared with that of all pairs.

    Args:
        model: the network, of up to 12 labels; nothing is done for more.
        ready: images, and what stands in for their truth.
        run: device, seed, progress.
        stop: where it says yes, the search ends.

    """
    nothing = Pairwise(
        what="source to target", evidence=(), passes=0, complete=True, confirm=POLICY.confirm_pair
    )
    images, truth = ready.search
    sources = _sources(ready)
    if model.num_classes > POLICY.most_pair_labels or len(sources) < POLICY.fewest_sources:
        return nothing
    jobs = [
        Job(Aim(target=target, source=source))
        for source in sources
        for target in ready.tested
        if target != source
    ]
    looked = screen_pairs(model, images, truth, jobs, run=run, stop=stop)
    if looked.silent or not looked.complete:
        return replace(nothing, passes=looked.passes, complete=looked.complete)
    seen = windows(model, images, truth, jobs, run=run, grid=3, title="pairs, windows", stop=stop)
    if len(seen.jobs) < len(jobs):
        return replace(nothing, passes=looked.passes + seen.passes, complete=False)
    starts = seen.starts(1)
    plan = Plan(form="patch", steps=POLICY.pair_steps, batch_size=POLICY.pair_batch)
    first = search(model, images, truth, list(starts), plan, run=run, starts=starts, title="pairs", stop=stop)
    sizes = {Job(job.aim): entry.size for job, entry in first.found.items()}
    scores = residuals(_logs(sizes))
    spread = _spread(scores)
    finalists = sorted(scores, key=lambda job: scores[job])[: POLICY.finalists]
    plan = Plan(form="patch", steps=POLICY.again_steps, batch_size=POLICY.again_batch, goal=POLICY.again_goal)
    chosen = {job: raw for job, raw in seen.starts(2).items() if Job(job.aim) in finalists}
    second = search(
        model, images, truth, list(chosen), plan, run=run, starts=chosen, title="pairs, again", stop=stop
    )
    evidence = []
    for job in finalists:
        tries = [first.found[Job(job.aim, 1)], *(second.found[Job(job.aim, start)] for start in (1, 2))]
        evidence.append(_pair_evidence(model, ready, job, tries, scores[job], spread, len(jobs)))
    return replace(
        nothing,
        evidence=tuple(evidence),
        passes=looked.passes + seen.passes + first.passes + second.passes,
        complete=first.complete and second.complete,
        most=POLICY.pair_ratio,
    )


def _sources(ready: Prepared) -> list[int]:
    """Return the tested labels that have images enough, for the search as for judging."""
    parts = (ready.search[1], ready.held_out[1])
    return [
        label
        for label in ready.tested
        if min(int((part == label).sum()) for part in parts) >= POLICY.fewest_of_source
    ]


def _spread(scores: dict[Job, float]) -> float:
    """Return the residuals' standard deviation, averaged with that of usual pairs."""
    own = MAD_TO_SIGMA * median(torch.tensor([abs(score) for score in scores.values()]))
    return float(((own**2 + POLICY.pair_prior**2) / 2) ** 0.5)


def _pair_evidence(
    model: Classifier,
    ready: Prepared,
    job: Job,
    tries: Sequence[Found],
    score: float,
    spread: float,
    compared: int,
) -> PairEvidence:
    """Return what is known of a pair, by the try that works best on held-out images."""
    shares = [job.aim.success(model, found.trigger, *ready.held_out) for found in tries]
    best = max(range(len(tries)), key=lambda place: (shares[place], -tries[place].size))
    return PairEvidence(
        job=job,
        ratio=math.exp(min(0.0, score)),
        p_value=min(1.0, _tail(score / spread) * compared),
        index=max(0.0, -score / spread),
        success=shares[best],
        size=tries[best].size,
        trigger=tries[best].trigger,
    )


def _tail(score: float) -> float:
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    return float(special.stdtr(POLICY.pair_freedom, score))


def _logs(sizes: Mapping[Job, float]) -> dict[Job, float]:
    """Return the logarithms of the pairs' sizes; an infinite size counts as the largest finite one."""
    most = max((size for size in sizes.values() if math.isfinite(size)), default=1.0)
    return {job: math.log(max(min(size, most), 1e-3)) for job, size in sizes.items()}
