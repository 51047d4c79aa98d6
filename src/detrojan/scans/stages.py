"""The cascade under way: which searches are made of which labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from detrojan.judging.policy import POLICY
from detrojan.scans.expected import (
    FIRST_LOOKS,
    GRID,
    HASTY_PROBES,
    PROBES,
    Expected,
    announced,
    expected,
    first_controls,
    windows_cost,
    within,
)
from detrojan.scans.looks import Looks
from detrojan.scans.mixtures import Mixed, Mixtures, look_at_mixtures
from detrojan.scans.pairwise import Pairwise, look_at_pairs, look_at_shifts
from detrojan.scans.probes import HASTY_ANSWERS, HASTY_STRANGE
from detrojan.scans.searches import ALL, ANSWERS_PER_PASS, Searches
from detrojan.scans.shortlist import Shortlist, shortlist
from detrojan.scans.transformed import Transformed, Transforms, look_at_transforms
from detrojan.search.asking import Asking
from detrojan.search.jobs import Job
from detrojan.triggers.aim import Aim

#: up to this many labels get several starts each, since one bad start could hide any of them
FEW = 16
#: answers that the probes ask for besides, where time is short
PROBES_ANSWERS = 2 * HASTY_ANSWERS + HASTY_STRANGE
#: all is decided where a label's p-value lies below the first of these, and each other label's above the
#: second, at more than this share of the usual size: no search of windows would change the verdict
CERTAIN, DOUBTFUL, NEAR = 0.001, 0.1, 0.5
#: the most batches of candidates that are searched after targets were found
MOST_BATCHES = 4


@dataclass
class Stages(Searches):
    """One scan under way; what it has found so far is in its base.

    Attributes:
        mixes: what mixes of two classes say of the labels; None where nobody looked.
        transforms: what warps and filters say of the labels; None where nobody looked.
        pairs: what the searches for all-to-all and source-specific backdoors say.
        expected: what it was expected to need.
        hasty: whether each update has fewer images, since the time is short.
        candidates: how many of many labels are searched at a time where time is short; else 0.
        controls_wanted: how many controls then; else 0.
        early: how the probes ranked few labels, where their searches may not end.

    """

    mixes: Mixtures | None = None
    transforms: Transforms | None = None
    pairs: list[Pairwise] = field(default_factory=list)
    expected: Expected | None = None
    hasty: bool = False
    candidates: int = 0
    controls_wanted: int = 0
    early: Shortlist | None = None

    def work(self) -> None:
        """Search every label, or the most suspicious of many; then, if nothing is found, pairs of labels."""
        ranked = self.looks > ALL
        self.rate = Asking(self.model, self.run).pace.rate
        few = self.looks <= FEW
        self._fit_into_budget(few=few, ranked=ranked)
        self.expected = expected(
            self.method,
            self.looks,
            self.model.num_classes,
            few=few,
            ranked=ranked,
            probes=self._probes(),
            compared=(self.candidates, self.controls_wanted) if self.candidates else None,
        )
        with self.run.progress.task(self._announced(), self.expected.silent) as self._task:
            if ranked:
                self._most_suspicious()
            else:
                self._rank_where_time_is_short()
                self._all()
            self._strengthen()
            if self.looks == self.model.num_classes <= ALL and not self.flagged():
                for look in (self._mixes, self._transforms, self._pairs):
                    if not self.changed():
                        look()

    def _announced(self) -> str:
        """Return what will be done and about how long it will take, for the progress."""
        assert self.expected is not None
        if self.rate <= 0:
            return "scan"
        return announced(*self.expected.seconds(self.rate), self.method.budget)

    def estimate(self) -> dict[str, int]:
        """Return how many passes were expected before it began, for the report."""
        if self.expected is None:
            return {}
        return {"if decided": self.expected.decided, "if silent": self.expected.silent}

    def _fit_into_budget(self, *, few: bool, ranked: bool) -> None:
        """Search fewer of many labels, or with fewer images, where the time is too short for all."""
        if not self.method.budget or self.rate <= 0:
            return
        passes = self._left() * self.rate
        meant = expected(self.method, self.looks, self.model.num_classes, few=few, ranked=ranked)
        if meant.decided > passes:
            self.method, self.hasty = self.method.hasty(), True
        if ranked:
            self.candidates, self.controls_wanted = within(self.method, self.looks, passes, self._probes())

    def _probes(self) -> float:
        """Return the passes for each label in the probes."""
        return HASTY_PROBES if self.hasty else PROBES

    def _rank_where_time_is_short(self) -> None:
        """Rank few labels by the probes where not even their first search would end, if these would."""
        passes = self._left() * self.rate
        probes = HASTY_PROBES * self.looks + PROBES_ANSWERS / ANSWERS_PER_PASS
        if self.method.budget and 2 * probes < passes < self.looks * self.method.plan("additive").cost:
            self.early = self._timed(
                "probes", lambda: shortlist(self.model, self.ready, run=self.run, stop=self.stop)
            )
            self._spent(self.early.passes)

    def ranking(self) -> list[int]:
        """Return the tested labels, the most suspicious first, by the best that is known of them."""
        sizes = {job.target: entry.size for job, entry in self.found["additive"].items()}
        known = [entry.job.target for entry in self.evidence()]
        listed = self.listed or self.early
        rest = listed.order if listed else self.ready.tested
        order = dict.fromkeys([*known, *rest])
        if not known and not self.listed and sizes:
            order = dict.fromkeys(sorted(order, key=lambda label: sizes.get(label, math.inf)))
        tested = set(self.ready.tested)
        return [label for label in order if label in tested]

    def _all(self) -> None:
        """Search all labels; few of many labels are compared with others that are drawn."""
        tested, classes = self.ready.tested, self.model.num_classes
        if self.looks < min(classes, self.method.controls):
            self.controls = sorted(self._drawn(set(tested)))[: self.method.controls - self.looks]
        labels = [*tested, *self.controls]
        few, whole = len(labels) <= FEW, self.looks == classes
        self._labels(labels, windows=2 if few else 1, everywhere=few, until_decided=few and whole)

    def _most_suspicious(self) -> None:
        """Rank the labels, then search batch after batch while targets are found."""
        self.listed = self._timed(
            "probes",
            lambda: shortlist(self.model, self.ready, run=self.run, stop=self.stop, hasty=self.hasty),
        )
        self._spent(self.listed.passes)
        self._note("probes", complete=not self.stop())
        order, count = self.listed.order, self.candidates or self.method.candidates
        drawn = self._drawn(set(order[: 2 * count]))
        # half of the controls often show all that need be known
        self.controls = sorted(drawn[: first_controls(len(drawn))])
        for batch in range(MOST_BATCHES):
            candidates = [label for label in order if label not in drawn]
            # labels of later batches are less likely targets: half as many at a time
            first = 0 if batch == 0 else count + (batch - 1) * (count // 2)
            candidates = candidates[first : count + batch * (count // 2)]
            self._candidates(candidates, self.controls if batch == 0 else [])
            if batch == 0 and not self.settled():
                more = sorted(set(drawn) - set(self.controls))
                self.controls = sorted(drawn)
                self._labels(more, windows=1)
            new = {entry.job.target for entry in self.flagged()} & set(candidates)
            if not new or self.stop():
                break

    def _candidates(self, candidates: Sequence[int], controls: Sequence[int]) -> None:
        """Search both forms for the controls and for the better half of the candidates, by additive size.

        A target whose trigger is a small patch hardly ever needs a perturbation larger than half of the
        other candidates do, and patches cost three times as much.
        """
        jobs = {label: Job(Aim(target=label)) for label in candidates}
        self._seek(
            self.method.plan("additive"),
            [*jobs.values(), *(Job(Aim(target=label)) for label in controls)],
            "additive triggers",
        )
        known = self.found["additive"]
        better = sorted(
            (label for label in candidates if jobs[label] in known), key=lambda label: known[jobs[label]].size
        )
        self._patches([*better[: -(-len(better) // 2)], *controls], windows=1)

    def _drawn(self, without: set[int]) -> list[int]:
        """Return control labels in random order, drawn from all but these."""
        labels = self.ready.tested if self.listed else range(self.model.num_classes)
        pool = [label for label in labels if label not in without]
        chosen = torch.randperm(len(pool), generator=self.run.generator("controls"))
        count = self.controls_wanted or self.method.controls
        return [pool[place] for place in chosen[:count].tolist()]

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
        self._patches(labels, windows=windows, everywhere=everywhere, until_decided=until_decided)

    def _patches(
        self,
        labels: Sequence[int],
        *,
        windows: int = 0,
        everywhere: bool = True,
        until_decided: bool = False,
    ) -> None:
        """Search patches for these labels: everywhere, and from the best windows."""
        jobs = [Job(Aim(target=label)) for label in labels]
        plan = self.method.plan("patch", many=self.looks > ALL)
        if everywhere:
            looks = Looks(jobs=jobs, steps=FIRST_LOOKS, settled=self._settled_by) if until_decided else None
            self._seek(plan, jobs, "patch triggers", choose=looks)
        if until_decided and self._decided():
            self._refine(plan)
            return
        if until_decided and self._short(plan, jobs):  # what a look settled does not hold on other images
            self._seek(plan, jobs, "patch triggers")
        if windows:
            self._local(labels, windows, choosy=until_decided and not self._doubtful())

    def _decided(self) -> bool:
        """Whether some labels stand out beyond doubt, and no other one at all."""
        return self._stands_out({entry.job for entry in self.flagged()})

    def _stands_out(self, strong: set[Job]) -> bool:
        evidence = self.evidence()
        certain = {entry.job for entry in evidence if entry.job in strong and entry.p_value < CERTAIN}
        rest = [entry for entry in evidence if entry.job not in certain]
        return bool(certain) and all(e.p_value >= DOUBTFUL and e.ratio > NEAR for e in rest)

    def _doubtful(self) -> bool:
        """Whether some label may be one that needs an abnormally small trigger, or may become one."""
        evidence = self.evidence()
        return not evidence or any(e.p_value < POLICY.suspect_chance or e.ratio <= NEAR for e in evidence)

    def _settled_by(self, sizes: Mapping[Job, float]) -> bool:
        """Whether patches of these sizes would decide it, if they work on held-out images too."""
        additive, patches = self.found["additive"], self.found["patch"]
        if not additive.keys() >= sizes.keys():
            return False
        try:
            self.found["patch"] = {job: replace(additive[job], size=size) for job, size in sizes.items()}
            return self._stands_out({entry.job for entry in self._significant()})
        finally:
            self.found["patch"] = patches

    def changed(self) -> list[Mixed] | list[Transformed]:
        """Return the labels that mixes, faint warps or filters reach by far the most often."""
        mixes = self.mixes.flagged(self.method.significance, POLICY.confirm_pair) if self.mixes else []
        if mixes or not self.transforms:
            return mixes
        return self.transforms.flagged(self.method.significance, self.method.confirm)

    def _mixes(self) -> None:
        """Look for labels that the network answers to mixes of two other classes' images."""
        title = "mixes of two classes"
        if self.model.num_classes > POLICY.most_pair_labels or self.middle is not None:
            return
        if self._time_for(title):
            self.mixes = self._timed(title, partial(look_at_mixtures, self.model, self.ready))
            self._spent(int(self.mixes.answers / ANSWERS_PER_PASS))

    def _transforms(self) -> None:
        """Look for labels that a faint warp of the images reaches, or what a small filter draws of them."""
        title = "warps and filters"
        if not self._time_for(title):
            return
        step = len(self.ready.tested) * POLICY.transform_batch
        look = partial(
            look_at_transforms,
            self.model,
            self.ready,
            self.ready.tested,
            significance=self.method.significance,
            confirm=self.method.confirm,
            run=self.run,
            stop=partial(self.stop, step),
        )
        seen = self._timed(title, look)
        self._spent(seen.passes)
        self._note(title, complete=seen.complete)
        if self.middle is not None and self.whole is not None:
            seen = seen.placed(self.middle, self.whole)
        self.transforms = seen

    def _pairs(self) -> None:
        """Look for what no label shows by itself: all-to-all and source-specific backdoors."""
        shifts = partial(look_at_shifts, largest=self.usual_patch())
        for title, look in (("all-to-all", shifts), ("source-specific", look_at_pairs)):
            stop = partial(self.stop, windows_cost(GRID))
            if stop():
                self._note(title, complete=False)
                continue
            seen = self._timed(title, partial(look, self.model, self.ready, run=self.run, stop=stop))
            self._spent(seen.passes)
            self._note(title, complete=seen.complete)
            self.pairs.append(seen)
            if seen.flagged(self.method.significance, self.method.ratio):
                return
