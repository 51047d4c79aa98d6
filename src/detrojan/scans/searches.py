"""The searches of a scan under way: each is timed, counted, and left out where the time is up."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch

from detrojan.judging.middle import MEASURING, PLACED_IN_A_HURRY
from detrojan.judging.outliers import median
from detrojan.judging.policy import POLICY
from detrojan.machine import give_memory_back
from detrojan.metrics.accuracy import attack_success
from detrojan.run import Run, Task
from detrojan.scans.expected import GRID, windows_cost
from detrojan.scans.weighed import JUDGED_IN_A_HURRY, Weighed
from detrojan.search.engine import search
from detrojan.search.forms import Patch
from detrojan.search.jobs import Job
from detrojan.search.plan import Choice, Plan
from detrojan.search.windows import windows
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: up to this many labels are all searched; more are ranked first
ALL = 48
#: a shown trigger that works on fewer held-out images is searched again, to work on this share of a batch
WORKS, STRONG_GOAL = 0.9, 0.99
#: passes after which they tell the speed better than what was measured before the scan
ENOUGH_PASSES = 500
#: answers in the time of a pass forward and backward, and those that the pictures of a report take
ANSWERS_PER_PASS, SHOWN = 2.0, 80


@dataclass
class Searches(Weighed):
    """Searches, and what they have found so far.

    Attributes:
        run: device, seed, progress, checkpoint.
        begun: when the scan began, by the monotonic clock.
        passes: forward+backward passes of one sample so far.
        seconds: wall time by stage.
        rate: passes a second that were measured before it began; 0 where nobody did.

    """

    run: Run = field(kw_only=True)
    begun: float = field(kw_only=True)
    passes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    _starts: dict[Job, torch.Tensor] = field(default_factory=dict)
    _task: Task | None = None

    def stop(self, passes: int = 0) -> bool:
        """Whether the time is up, or would be before so many passes are made and the end is written."""
        if not self.method.budget:
            return False
        speed = self._speed()
        needed = passes / speed + self._ending(speed) if speed else 0.0
        return self.method.budget < time.monotonic() - self.begun + needed

    def in_a_hurry(self) -> bool:
        """Whether the time is up."""
        return self.stop()

    def _speed(self) -> float:
        """Return the passes a second that can be expected: as measured, or as they were since then."""
        spent = sum(self.seconds.values())
        if self.passes < ENOUGH_PASSES or spent <= 0:
            return self.rate
        return min(self.rate, self.passes / spent) if self.rate else self.passes / spent

    def _ending(self, speed: float) -> float:
        """Return the seconds that it takes to try what was found on held-out images, at a speed of passes."""
        if not self.large:
            return 0.0
        labels = len({job.target for found in self.found.values() for job in found})
        whole = self.ready.afforded.rate
        placing = 0 if self.middle is None else PLACED_IN_A_HURRY
        return labels * JUDGED_IN_A_HURRY / (ANSWERS_PER_PASS * speed) + (placing + SHOWN) / whole

    def _left(self) -> float:
        """Return the seconds that the budget leaves."""
        return max(0.0, self.method.budget - (time.monotonic() - self.begun))

    def _spent(self, passes: int) -> None:
        """Count passes."""
        self.passes += passes
        if self._task is not None:
            self._task.advance(passes)

    def _local(self, labels: Sequence[int], count: int, *, choosy: bool = False) -> None:
        """Search patches from each label's best windows.

        Args:
            labels: to search.
            count: windows of each label.
            choosy: search none where no window does far more for one label than for the others.

        """
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
                stop=partial(self.stop, windows_cost(GRID)),
            ),
        )
        self._spent(seen.passes)
        self._note("windows", complete=len(seen.jobs) == len(labels))
        starts = seen.starts(count)
        best = seen.losses[:, 0]
        if choosy and len(best) and float(best.min()) > POLICY.window_lead * median(best):
            return  # all patches have begun everywhere already, and hardly become smaller
        self._starts |= starts
        self._seek(self.method.plan("window", many=self.looks > ALL), list(starts), "small patches", starts)

    def _short(self, plan: Plan, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs whose patches had fewer updates than planned, since a look ended their search."""
        found = self.found["patch"]
        return [job for job in jobs if job in found and found[job].steps < plan.steps]

    def _refine(self, plan: Plan) -> None:
        """Search the flagged labels' patches to the end, where a look ended their search.

        The search is the same, so it only goes further. What is found is shown if it works; the sizes that
        were tested stay as they were, since all labels' had the same number of updates.
        """
        short = self._short(plan, [entry.job for entry in self.flagged()])
        if not short or self.stop():
            return
        found = self._timed(
            "stronger triggers",
            lambda: search(
                self.model, *self.ready.search, short, plan, run=self.run, stop=self._before_step(plan, short)
            ),
        )
        self._spent(found.passes)
        for job, change in found.found.items():
            success = self.success(change.trigger, job.target)
            if math.isfinite(change.size) and success >= self.method.confirm:
                self._shown[job] = (change.trigger, "patch", success)
                self._place(job, change.trigger)

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
                self.model,
                images,
                truth,
                [*weak, *starts],
                plan,
                run=self.run,
                starts=starts,
                stop=self._before_step(plan, [*weak, *starts]),
            ),
        )
        self._spent(found.passes)
        for job, change in found.found.items():
            success, known = self.success(change.trigger, job.target), Job(job.aim)
            if math.isfinite(change.size) and success > self._shown[known][2]:
                self._shown[known] = (change.trigger, "patch", success)
                self._place(known, change.trigger)

    def _place(self, job: Job, trigger: Trigger) -> None:
        """Try another patch of a label on whole images, and keep the one that works better there."""
        if self.middle is not None and job in self._placed:
            other = self.placed(trigger, "patch", job.target)
            self._placed[job] = max(self._placed[job], other, key=lambda one: one[2])

    def grown(self, job: Job, placed: tuple[Trigger, str, float]) -> tuple[Trigger, str, float]:
        """Search on, on whole images, from a patch that was found on their part and is too small for them.

        A network that pools over all places sees a patch less, the more there is around it.
        """
        trigger = placed[0]
        if self.middle is None or self.whole is None or not isinstance(trigger, PatchTrigger) or self.stop():
            return placed
        whole, images, truth = self.middle.whole, *self.whole.search
        plan, begun = self.method.plan("patch"), Job(job.aim, start=1)
        plan = replace(plan, goal=max(plan.goal, STRONG_GOAL))
        larger = images[0].numel() / self.ready.images[0].numel()
        title = "patches on whole images"
        found = self._timed(
            title,
            lambda: search(
                whole,
                images,
                truth,
                [begun],
                plan,
                run=self.run,
                starts={begun: Patch.raw(trigger)},
                title=title,
                stop=partial(self.stop, int(larger * plan.batch_size)),
            ),
        )
        self._spent(found.passes)
        change = found.found.get(begun)
        if change is None or not math.isfinite(change.size):
            return placed
        held, labels = (part[:MEASURING] for part in self.whole.held_out)
        success = attack_success(whole, change.trigger, held, labels, job.target)
        return max(placed, (change.trigger, "patch", success), key=lambda one: one[2])

    def _seek(
        self,
        plan: Plan,
        jobs: Sequence[Job],
        title: str,
        starts: Mapping[Job, torch.Tensor] | None = None,
        choose: Choice | None = None,
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
                stop=self._before_step(plan, jobs),
                choose=choose,
            ),
        )
        known = self.found[plan.form]
        for job, change in found.found.items():
            # a search that was cut short may not have come as far as one before it
            if found.complete or job not in known or change.size <= known[job].size:
                known[job] = change
        self._spent(found.passes)
        self._note(title, complete=found.complete)

    def _before_step(self, plan: Plan, jobs: Sequence[Job]) -> Callable[[], bool]:
        """Return what tells before each step of a search whether there is no time for it."""
        return partial(self.stop, len(jobs) * plan.batch_size)

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
        if self.large:  # what the last stage had in hand would be held beside this one's
            give_memory_back()
        try:
            return job()
        finally:
            spent = time.monotonic() - begun
            self.seconds[title] = self.seconds.get(title, 0.0) + spent
            logger.debug("%s: %.1f s", title, spent)
