"""The cascade under way: which searches are made of which labels, and all that they have found so far."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch

from detrojan.judging.evidence import EFFECTIVE, Evidence, weigh
from detrojan.judging.outliers import small_p_values
from detrojan.judging.preparing import Prepared
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.pairwise import Pairwise, look_at_pairs, look_at_shifts
from detrojan.scans.settings import Settings
from detrojan.scans.shortlist import Shortlist, shortlist
from detrojan.search.engine import search
from detrojan.search.jobs import Job
from detrojan.search.plan import Found, Plan
from detrojan.search.windows import windows
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: up to this many labels are all searched; more are ranked first
ALL = 48
#: up to this many labels get several starts each, since one bad start could hide any of them
FEW = 16
#: all is decided where a label's p-value lies below the first of these, and each other label's above the
#: second, at more than this share of the usual size: no search of windows would change the verdict
CERTAIN, DOUBTFUL, NEAR = 0.001, 0.1, 0.5
#: of many labels, more than this many cannot all be targets
MOST_TARGETS = 5
#: a further target whose own p-value would not do is at most so many times as large as the first
ALIKE = 2.0
#: a shown trigger that works on fewer held-out images is searched again, to work on this share of a batch
WORKS, STRONG_GOAL = 0.9, 0.99
#: the most batches of candidates that are searched after targets were found
MOST_BATCHES = 4


@dataclass
class Stages:
    """One scan under way.

    Attributes:
        method: what to do.
        model: the network.
        ready: images, and the labels to test.
        run: device, seed, progress, checkpoint.
        begun: when the scan began, by the monotonic clock.
        controls: labels that are searched for comparison; none where all labels are tested.
        listed: how the probes ranked the labels; None where there are too few to rank.
        found: by form, what each search found.
        pairs: what the searches for all-to-all and source-specific backdoors say.
        passes: forward+backward passes of one sample so far.
        cut: the stages that time or somebody cut short, or that were left out for it.
        interrupted: whether somebody stopped it.
        seconds: wall time by stage.

    """

    method: Settings
    model: Classifier
    ready: Prepared
    run: Run
    begun: float
    controls: list[int] = field(default_factory=list)
    listed: Shortlist | None = None
    found: dict[str, dict[Job, Found]] = field(default_factory=lambda: {"patch": {}, "additive": {}})
    pairs: list[Pairwise] = field(default_factory=list)
    passes: int = 0
    cut: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    _shown: dict[Job, tuple[Trigger, str, float]] = field(default_factory=dict)
    _starts: dict[Job, torch.Tensor] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing was cut short."""
        return not self.cut and not self.interrupted

    @property
    def looks(self) -> int:
        """How many labels are to be tested."""
        return len(self.ready.tested)

    @property
    def compared(self) -> int:
        """How many labels are looked at, those included that are only drawn for comparison.

        A label that is drawn may turn out to be small, and a choice of few labels may have been made
        after a look at all: what is computed counts, not what was asked for.
        """
        return len({*self.ready.tested, *self.controls})

    @property
    def looked_at(self) -> list[int]:
        """The labels to test that were searched, or put aside by the probes."""
        searched = {entry.job.target for entry in self.evidence()}
        return [label for label in self.ready.tested if self.ranked or label in searched]

    @property
    def ranked(self) -> bool:
        """Whether the probes have looked at all labels."""
        return self.listed is not None and "probes" not in self.cut

    @property
    def null(self) -> list[Job] | None:
        """The jobs that show what is usual, or None where all do that are not small themselves."""
        return [Job(Aim(target=label)) for label in self.controls] if self.listed else None

    def stop(self) -> bool:
        """Whether the time is up."""
        budget = self.method.budget
        return 0 < budget < time.monotonic() - self.begun

    def work(self) -> None:
        """Search every label, or the most suspicious of many; then, if nothing is found, pairs of labels."""
        if self.looks <= ALL:
            self._all()
        else:
            self._most_suspicious()
        self._strengthen()
        if self.looks == self.model.num_classes <= ALL and not self.flagged():
            self._pairs()

    def _all(self) -> None:
        """Search all labels; few of many labels are compared with others that are drawn."""
        tested, classes = self.ready.tested, self.model.num_classes
        if self.looks < min(classes, self.method.controls):
            self.controls = self._drawn(set(tested))[: self.method.controls - self.looks]
        labels = [*tested, *self.controls]
        few, whole = len(labels) <= FEW, self.looks == classes
        self._labels(labels, windows=2 if few else 1, everywhere=few, until_decided=few and whole)

    def _most_suspicious(self) -> None:
        """Rank the labels, then search batch after batch while targets are found."""
        self.listed = self._timed(
            "probes", lambda: shortlist(self.model, self.ready, run=self.run, stop=self.stop)
        )
        self.passes += self.listed.passes
        self._note("probes", complete=not self.stop())
        order, count = self.listed.order, self.method.candidates
        self.controls = self._drawn(set(order[: 2 * count]))
        for batch in range(MOST_BATCHES):
            candidates = [label for label in order if label not in self.controls]
            # labels of later batches are less likely targets: half as many at a time
            first = 0 if batch == 0 else count + (batch - 1) * (count // 2)
            candidates = candidates[first : count + batch * (count // 2)]
            self._labels([*candidates, *self.controls] if batch == 0 else candidates, windows=1)
            new = {entry.job.target for entry in self.flagged()} & set(candidates)
            if not new or self.stop():
                break

    def _drawn(self, without: set[int]) -> list[int]:
        """Return control labels, drawn from all but these."""
        labels = self.ready.tested if self.listed else range(self.model.num_classes)
        pool = [label for label in labels if label not in without]
        chosen = torch.randperm(len(pool), generator=self.run.generator("controls"))
        return sorted(pool[place] for place in chosen[: self.method.controls].tolist())

    def _labels(
        self,
        labels: Sequence[int],
        *,
        windows: int = 0,
        everywhere: bool = True,
        until_decided: bool = False,
    ) -> None:
        """Search both forms for these labels: patches everywhere, and from the best windows."""
        jobs = [Job(Aim(target=label)) for label in labels]
        self._seek(self.method.plan("additive"), jobs, "additive triggers")
        if everywhere:
            self._seek(self.method.plan("patch", many=self.looks > ALL), jobs, "patch triggers")
        if windows and not (until_decided and self._decided()):
            self._local(labels, windows)

    def _decided(self) -> bool:
        """Whether some labels stand out beyond doubt, and no other one at all."""
        flagged = {entry.job for entry in self.flagged() if entry.p_value < CERTAIN}
        rest = [entry for entry in self.evidence() if entry.job not in flagged]
        return bool(flagged) and all(e.p_value >= DOUBTFUL and e.ratio > NEAR for e in rest)

    def _local(self, labels: Sequence[int], count: int) -> None:
        """Search patches from each label's best windows."""
        if not labels or not self._time_for("small patches"):
            return
        images, truth = self.ready.search
        seen = self._timed(
            "windows",
            lambda: windows(
                self.model,
                images,
                truth,
                [Job(Aim(target=label)) for label in labels],
                run=self.run,
                stop=self.stop,
            ),
        )
        self.passes += seen.passes
        self._note("windows", complete=len(seen.jobs) == len(labels))
        starts = seen.starts(count)
        self._starts |= starts
        self._seek(self.method.plan("window", many=self.looks > ALL), list(starts), "small patches", starts)

    def _strengthen(self) -> None:
        """Search labels again whose triggers are far too small but fail on held-out images.

        The smallest trigger of a few batches may be too small for images that it has not seen. What
        is found here is shown if it works better; the sizes that were tested stay as they were.
        """
        weak = [entry.job for entry in self._strong() if self.shown(entry)[2] < WORKS]
        if not weak or self.stop():
            return
        plan = self.method.plan("patch")
        plan = replace(plan, batch_size=2 * plan.batch_size, goal=max(plan.goal, STRONG_GOAL))
        images, truth = self.ready.search
        starts = {job: raw for job, raw in self._starts.items() if Job(job.aim) in weak}
        found = self._timed(
            "stronger triggers",
            lambda: search(
                self.model, images, truth, [*weak, *starts], plan, run=self.run, starts=starts, stop=self.stop
            ),
        )
        self.passes += found.passes
        held, goals = self.ready.held_out
        for job, change in found.found.items():
            success = attack_success(self.model, change.trigger, held, goals, job.target)
            if math.isfinite(change.size) and success > self._shown[Job(job.aim)][2]:
                self._shown[Job(job.aim)] = (change.trigger, "patch", success)

    def _seek(
        self, plan: Plan, jobs: Sequence[Job], title: str, starts: Mapping[Job, torch.Tensor] | None = None
    ) -> None:
        if not jobs or not self._time_for(title):
            return
        images, truth = self.ready.search
        found = self._timed(
            title,
            lambda: search(
                self.model,
                images,
                truth,
                jobs,
                plan,
                run=self.run,
                starts=starts,
                title=title,
                stop=self.stop,
            ),
        )
        self.found[plan.form] |= found.found
        self.passes += found.passes
        self._note(title, complete=found.complete)

    def _pairs(self) -> None:
        """Look for what no label shows by itself: all-to-all and source-specific backdoors."""
        for title, look in (("all-to-all", look_at_shifts), ("source-specific", look_at_pairs)):
            if not self._time_for(title):
                continue
            seen = self._timed(title, partial(look, self.model, self.ready, run=self.run, stop=self.stop))
            self.passes += seen.passes
            self._note(title, complete=seen.complete)
            self.pairs.append(seen)
            if seen.flagged(self.method.significance, self.method.ratio):
                return

    def _time_for(self, title: str) -> bool:
        """Whether there is time for a stage; where there is none, that is noted."""
        there_is = not self.stop()
        self._note(title, complete=there_is)
        return there_is

    def _note(self, title: str, *, complete: bool) -> None:
        if not complete and title not in self.cut:
            self.cut.append(title)

    def _timed(self, title: str, job: Callable[[], Result]) -> Result:
        begun = time.monotonic()
        try:
            return job()
        finally:
            spent = time.monotonic() - begun
            self.seconds[title] = self.seconds.get(title, 0.0) + spent
            logger.debug("%s: %.1f s", title, spent)

    def evidence(self) -> list[Evidence]:
        """Return what is known of the labels so far, the strongest first."""
        chances = self.listed.chances if self.listed else None
        return weigh(
            self.found, controls=self.null, ratio=self.method.ratio, looks=self.compared, probes=chances
        )

    def flagged(self) -> list[Evidence]:
        """Return the evidence that is strong enough, and confirmed on held-out images."""
        return [entry for entry in self._strong() if self.shown(entry)[2] >= self.method.confirm]

    def _strong(self) -> list[Evidence]:
        """Return the significant ones; of too many only those that stand out among them."""
        strong = self._significant()
        return self._standing_out(strong) if self._too_many(strong) else strong

    def crowd(self) -> list[Evidence]:
        """Return the significant ones where they are too many to be targets, or nothing."""
        strong = self._significant()
        return strong if self._too_many(strong) else []

    def small_controls(self) -> list[int]:
        """Return the labels that were drawn for comparison only, and are small themselves."""
        significance, ratio = self.method.significance, self.method.ratio
        small = {e.job.target for e in self.evidence() if e.p_value < significance and e.ratio <= ratio}
        return sorted(small - set(self.ready.tested))

    def _too_many(self, strong: list[Evidence]) -> bool:
        return self.listed is not None and len(strong) > MOST_TARGETS

    def _significant(self) -> list[Evidence]:
        """Return the small ones that are significant, the strongest first, up to the first that is not.

        Where there is one backdoor more are likely: the k-th may have k times the p-value of the first, as
        with Benjamini and Hochberg (Journal of the Royal Statistical Society B 1995), but downwards. It
        must be about as small as the first then, or it is a label that is small by nature.
        """
        tested = set(self.ready.tested)
        small = [e for e in self.evidence() if e.ratio <= self.method.ratio and e.job.target in tested]
        strong: list[Evidence] = []
        for entry in small:
            alike = bool(strong) and entry.sizes["both"] <= ALIKE * strong[0].sizes["both"]
            if entry.p_value >= self.method.significance * (1 + alike * len(strong)):
                break
            strong.append(entry)
        return strong

    def _standing_out(self, strong: list[Evidence]) -> list[Evidence]:
        """Return those that are small even beside the other strong ones.

        So many cannot all be targets: this network's natural labels reach further down than its controls
        show, and the strong ones themselves tell how far.
        """
        everyone = torch.ones(len(strong), dtype=torch.bool)
        chances = torch.stack(
            [
                small_p_values(torch.tensor([entry.sizes[form] for entry in strong]), everyone)
                for form in ("patch", "additive")
            ]
        )
        limit = self.method.significance / EFFECTIVE
        return [entry for entry, chance in zip(strong, chances.amin(0), strict=True) if chance < limit]

    def shown(self, entry: Evidence) -> tuple[Trigger, str, float]:
        """Return the change to show, its form, and its attack success on held-out images.

        A patch says more than a faint change of everything, so the patch is shown if it works.
        """
        if entry.job not in self._shown:
            images, truth = self.ready.held_out
            best: tuple[Trigger, str, float] | None = None
            for form in ("patch", "additive"):
                found = entry.found[form]
                if best is not None and (best[2] >= self.method.confirm or math.isinf(found.size)):
                    continue
                success = attack_success(self.model, found.trigger, images, truth, entry.job.target)
                if best is None or success > best[2]:
                    best = (found.trigger, form, success)
            assert best is not None
            self._shown[entry.job] = best
        return self._shown[entry.job]
