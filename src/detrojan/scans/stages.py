"""The cascade under way: which searches are made of which labels."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch

from detrojan.run import Run, Task
from detrojan.scans.expected import Expected, expected, within
from detrojan.scans.pairwise import Pairwise, look_at_pairs, look_at_shifts
from detrojan.scans.shortlist import Shortlist, shortlist
from detrojan.scans.weighed import Weighed
from detrojan.search.asking import Asking
from detrojan.search.engine import search
from detrojan.search.jobs import Job
from detrojan.search.plan import Plan
from detrojan.search.windows import windows
from detrojan.triggers.aim import Aim
from detrojan.words import duration

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: up to this many labels are all searched; more are ranked first
ALL = 48
#: up to this many labels get several starts each, since one bad start could hide any of them
FEW = 16
#: all is decided where a label's p-value lies below the first of these, and each other label's above the
#: second, at more than this share of the usual size: no search of windows would change the verdict
CERTAIN, DOUBTFUL, NEAR = 0.001, 0.1, 0.5
#: a shown trigger that works on fewer held-out images is searched again, to work on this share of a batch
WORKS, STRONG_GOAL = 0.9, 0.99
#: the most batches of candidates that are searched after targets were found
MOST_BATCHES = 4


@dataclass
class Stages(Weighed):
    """One scan under way; what it has found so far is in its base.

    Attributes:
        run: device, seed, progress, checkpoint.
        begun: when the scan began, by the monotonic clock.
        pairs: what the searches for all-to-all and source-specific backdoors say.
        passes: forward+backward passes of one sample so far.
        seconds: wall time by stage.
        expected: what it was expected to need.
        rate: passes a second that were measured before it began.
        candidates: how many of many labels are searched at a time where time is short; else 0.
        controls_wanted: how many controls then; else 0.
        early: how the probes ranked few labels, where their searches may not end.

    """

    run: Run = field(kw_only=True)
    begun: float = field(kw_only=True)
    pairs: list[Pairwise] = field(default_factory=list)
    passes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    expected: Expected | None = None
    rate: float = 0.0
    candidates: int = 0
    controls_wanted: int = 0
    early: Shortlist | None = None
    _starts: dict[Job, torch.Tensor] = field(default_factory=dict)
    _task: Task | None = None

    def stop(self) -> bool:
        """Whether the time is up."""
        budget = self.method.budget
        return 0 < budget < time.monotonic() - self.begun

    def work(self) -> None:
        """Search every label, or the most suspicious of many; then, if nothing is found, pairs of labels."""
        ranked = self.looks > ALL
        self.rate = Asking(self.model, self.run).pace.rate
        if ranked:
            self._fit_into_budget()
        few = self.looks <= FEW
        self.expected = expected(self.method, self.looks, self.model.num_classes, few=few, ranked=ranked)
        with self.run.progress.task(self._announced(), self.expected.silent) as self._task:
            if ranked:
                self._most_suspicious()
            else:
                self._rank_where_time_is_short()
                self._all()
            self._strengthen()
            if self.looks == self.model.num_classes <= ALL and not self.flagged():
                self._pairs()

    def _announced(self) -> str:
        """Return what will be done and about how long it will take, for the progress."""
        assert self.expected is not None
        if self.rate <= 0:
            return "scan"
        soon, late = self.expected.seconds(self.rate)
        limit = f", at most {duration(self.method.budget)}" if self.method.budget else ""
        return f"scan, about {duration(soon)}, {duration(late)} if nothing is found{limit}"

    def estimate(self) -> dict[str, int]:
        """Return how many passes were expected before it began, for the report."""
        if self.expected is None:
            return {}
        return {"if decided": self.expected.decided, "if silent": self.expected.silent}

    def _left(self) -> float:
        """Return the seconds that the budget leaves."""
        return max(0.0, self.method.budget - (time.monotonic() - self.begun))

    def _fit_into_budget(self) -> None:
        """Search fewer of many labels where there is not the time for all that are meant."""
        if self.method.budget and self.rate > 0:
            self.candidates, self.controls_wanted = within(self.method, self.looks, self._left() * self.rate)

    def _rank_where_time_is_short(self) -> None:
        """Rank few labels by the probes where their searches may not end: that is known then at least."""
        assert self.expected is not None
        if self.method.budget and self.rate > 0 and self.expected.seconds(self.rate)[0] > self._left():
            self.early = self._timed(
                "probes", lambda: shortlist(self.model, self.ready, run=self.run, stop=self.stop)
            )
            self._spent(self.early.passes)

    def _spent(self, passes: int) -> None:
        """Count passes."""
        self.passes += passes
        if self._task is not None:
            self._task.advance(passes)

    def ranking(self) -> list[int]:
        """Return the tested labels, the most suspicious first, by the best that is known of them."""
        sizes = {job.target: entry.size for job, entry in self.found["additive"].items()}
        known = [entry.job.target for entry in self.evidence()]
        listed = self.listed or self.early
        rest = listed.order if listed else self.ready.tested
        order = dict.fromkeys([*known, *rest])
        if not known and not listed:
            order = dict.fromkeys(sorted(self.ready.tested, key=lambda label: sizes.get(label, math.inf)))
        tested = set(self.ready.tested)
        return [label for label in order if label in tested]

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
        self._spent(self.listed.passes)
        self._note("probes", complete=not self.stop())
        order, count = self.listed.order, self.candidates or self.method.candidates
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
        count = self.controls_wanted or self.method.controls
        return sorted(pool[place] for place in chosen[:count].tolist())

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
        self._spent(seen.passes)
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
        self._spent(found.passes)
        for job, change in found.found.items():
            success, known = self.success(change.trigger, job.target), Job(job.aim)
            if math.isfinite(change.size) and success > self._shown[known][2]:
                self._shown[known] = (change.trigger, "patch", success)
                if self.middle is not None:
                    self._placed[known] = max(
                        self._placed[known],
                        self.placed(change.trigger, "patch", job.target),
                        key=lambda one: one[2],
                    )

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
        self._spent(found.passes)
        self._note(title, complete=found.complete)

    def _pairs(self) -> None:
        """Look for what no label shows by itself: all-to-all and source-specific backdoors."""
        for title, look in (("all-to-all", look_at_shifts), ("source-specific", look_at_pairs)):
            if not self._time_for(title):
                continue
            seen = self._timed(title, partial(look, self.model, self.ready, run=self.run, stop=self.stop))
            self._spent(seen.passes)
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
