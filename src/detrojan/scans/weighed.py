"""What the cascade's searches have found so far, and which labels that makes targets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from detrojan.judging.evidence import EFFECTIVE, Evidence, weigh
from detrojan.judging.middle import LARGE, Middle
from detrojan.judging.outliers import finite_median, small_p_values
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.scans.natural import Natural
from detrojan.scans.settings import Settings
from detrojan.scans.shortlist import Shortlist
from detrojan.search.jobs import Job
from detrojan.search.plan import Found
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger

#: of many labels, more than this many cannot all be targets
MOST_TARGETS = 5
#: a further target whose own p-value would not do is at most so many times as large as the first
ALIKE = 2.0
#: where half of the controls are known, a target's p-value is below this share of the significance
SURE = 0.25
#: held-out images that a trigger for large images is tried on, and where the time is up
JUDGED, JUDGED_IN_A_HURRY = 96, 24


@dataclass
class Weighed:
    """What was found so far.

    Attributes:
        method: what to do.
        model: the network.
        ready: images, and the labels to test.
        controls: labels that are searched for comparison; none where all labels are tested.
        listed: how the probes ranked the labels; None where there are too few to rank.
        found: by form, what each search found.
        cut: the stages that time or somebody cut short, or that were left out for it.
        interrupted: whether somebody stopped it.
        middle: where `model` sees the middle part of large images only: that part. None elsewhere.
        whole: `ready` with whole images then.

    """

    method: Settings
    model: Classifier
    ready: Prepared
    controls: list[int] = field(default_factory=list)
    listed: Shortlist | None = None
    found: dict[str, dict[Job, Found]] = field(default_factory=lambda: {"patch": {}, "additive": {}})
    cut: list[str] = field(default_factory=list)
    interrupted: bool = False
    middle: Middle | None = None
    whole: Prepared | None = None
    _natural: Natural | None = None
    _shown: dict[Job, tuple[Trigger, str, float]] = field(default_factory=dict)
    _placed: dict[Job, tuple[Trigger, str, float]] = field(default_factory=dict)
    _grown: set[Job] = field(default_factory=set)

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

    def settled(self) -> bool:
        """Whether more controls would hardly change which of many labels are targets.

        It is so where every flagged label's p-value is far below the significance, and no other label's is
        low enough to be suspicious.
        """
        flagged = {entry.job: entry.p_value for entry in self.flagged()}
        sure = all(chance < SURE * self.method.significance for chance in flagged.values())
        others = [entry.p_value for entry in self.evidence() if entry.job not in flagged]
        return sure and all(chance >= POLICY.suspect_chance for chance in others)

    def crowd(self) -> list[Evidence]:
        """Return the significant ones where they are too many to be targets, or nothing."""
        strong = self._significant()
        return strong if self._too_many(strong) else []

    def compass(self) -> Natural:
        """Return what compares the features that labels are reached by."""
        if self._natural is None:
            self._natural = Natural(self.model, self.ready)
        return self._natural

    def natural(self, entry: Evidence) -> bool:
        """Whether a doubtful label's features move as those of usual labels do.

        A small trigger that leads to the label's own features is more likely one of nature. That never
        speaks against a label whose p-value or size is clear.
        """
        if entry.p_value < POLICY.clear_chance or entry.ratio <= POLICY.clear_ratio:
            return False
        usual = [one for one in self.evidence() if one.ratio > self.method.ratio and one.job != entry.job]
        if self.null is not None:
            usual = [one for one in usual if one.job in self.null]
        return self.compass().ordinary(entry, usual)

    def usual_patch(self) -> float:
        """Return the size of the patch that usually leads to a single label, in pixels."""
        return finite_median(torch.tensor([entry.sizes["patch"] for entry in self.evidence()]))

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
        must be about as small as the first then, or it is a label that is small by nature. So is one that
        is reached as usual labels are, if its own p-value leaves a doubt.
        """
        return self._sorted_out()[0]

    def natural_ones(self) -> list[Evidence]:
        """Return those that are significant, but may be so by a natural feature."""
        return self._sorted_out()[1]

    def _sorted_out(self) -> tuple[list[Evidence], list[Evidence]]:
        """Return the significant ones, and those that may be so by a natural feature."""
        tested = set(self.ready.tested)
        small = [e for e in self.evidence() if e.ratio <= self.method.ratio and e.job.target in tested]
        strong: list[Evidence] = []
        natural: list[Evidence] = []
        for entry in small:
            alike = bool(strong) and entry.sizes["both"] <= ALIKE * strong[0].sizes["both"]
            if entry.p_value >= self.method.significance * (1 + alike * len(strong)):
                break
            (natural if self.natural(entry) else strong).append(entry)
        return strong, natural

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

        A patch says more than a faint change of everything, so the patch is shown if it works. A label
        that stands out is tried on whole images where parts were searched.
        """
        if entry.job not in self._shown:
            self._shown[entry.job] = self._best(entry)
        if self.middle is None:
            return self._shown[entry.job]
        trigger, form, success = self._shown[entry.job]
        if entry.ratio > self.method.ratio or success < self.method.confirm:
            return self.middle.lifted(trigger), form, success
        if entry.job not in self._placed:
            self._placed[entry.job] = self.placed(trigger, form, entry.job.target)
        short = self._placed[entry.job][2] < self.method.confirm
        if short and entry.p_value < self.method.significance and entry.job not in self._grown:
            self._grown.add(entry.job)
            self._placed[entry.job] = self.grown(entry.job, self._placed[entry.job])
        return self._placed[entry.job]

    @property
    def large(self) -> bool:
        """Whether the network's images are large, so that each answer takes long."""
        return self.middle is not None or min(self.model.input_shape[1:]) > LARGE

    def in_a_hurry(self) -> bool:
        """Whether there is no time for more than a glance."""
        return False

    def success(self, trigger: Trigger, target: int) -> float:
        """Return a trigger's attack success on held-out images or their parts; of large ones on some."""
        images, truth = self.ready.held_out
        if self.large:
            most = JUDGED_IN_A_HURRY if self.in_a_hurry() else JUDGED
            some = (truth != target).nonzero().flatten()[:most]
            images, truth = images[some], truth[some]
        return attack_success(self.model, trigger, images, truth, target)

    def placed(self, trigger: Trigger, form: str, target: int) -> tuple[Trigger, str, float]:
        """Return a trigger for parts as one for whole images, and its success on those."""
        assert self.middle is not None
        assert self.whole is not None
        lifted, success = self.middle.placed(
            trigger, target, self.whole.search, self.whole.held_out, hurry=self.in_a_hurry()
        )
        return lifted, form, success

    def grown(self, job: Job, placed: tuple[Trigger, str, float]) -> tuple[Trigger, str, float]:
        """Return a change that works on whole images, where the one that was placed does not."""
        return placed

    def _best(self, entry: Evidence) -> tuple[Trigger, str, float]:
        best: tuple[Trigger, str, float] | None = None
        for form in ("patch", "additive"):
            found = entry.found[form]
            if best is not None and (best[2] >= self.method.confirm or math.isinf(found.size)):
                continue
            success = self.success(found.trigger, entry.job.target)
            if best is None or success > best[2]:
                best = (found.trigger, form, success)
        assert best is not None
        return best
