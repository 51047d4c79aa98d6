"""The reference network: a trigger that works on a network, and not on one taught with clean images."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detrojan.errors import OptionError
from detrojan.findings import L2, PIXELS, Criterion, Finding, confidence_in
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.judging.private import Private, weigh_private
from detrojan.judging.verdict import Case, Judged, Sign, finding, labels_tested
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.scans.reference_searches import ReferenceSearches
from detrojan.scans.settings import Settings
from detrojan.search.plan import Found, Plan

#: what a suspicious label shows
ONLY_HERE = Sign(
    one="has", many="have", what="a small trigger that a network taught with clean images does not know"
)
STATISTIC = "how many times larger a trigger is that a reference network does not know"
UNITS = {"patch": PIXELS, "additive": L2}
#: what nothing is said of
NOT_LOOKED_AT = "triggers that cover the whole image, and those of pairs of labels, may be missed"


@dataclass(frozen=True, kw_only=True)
class ReferenceNetwork(Scan):
    """Compare a network with one that has learned its answers to clean images from the start.

    With two to four labels, no label shows what is usual for another. So a reference network is trained: the
    same layers, from new weights, on the network's own answers to the clean images at hand. For each label
    the smallest trigger is searched that works on the network, and then the smallest that works on the
    network but not on the reference. Natural triggers are made of features that both networks know, so
    one that the reference does not know has to be two or three times as large. The reference has
    never seen a backdoor's trigger: there the two sizes are about equal.

    The p-value comes from the logarithm of their ratio, for patches and for additive changes, and from both
    together. It is compared with what networks without a backdoor show, and corrected for the labels tested.
    A flagged trigger that the reference does not know is also at most 1.35 times as large as any. With two
    labels an all-to-all backdoor shows as two targets.

    The reference must answer held-out images much as the network does. Where it has not learned to, the scan
    is inconclusive.

    Reference: the form of the patch is Neural Cleanse's (Wang et al., IEEE S&P 2019), the reference network
    is distilled (Hinton et al., Distilling the Knowledge in a Neural Network, 2015); the comparison is ours.

    Args:
        updates: of the reference network, 48 images each; 1 or more.
        patch_steps: updates of each patch that begins all over the image; 1 or more.
        window_steps: updates of each patch that begins in a window; 1 or more.
        additive_steps: updates of each additive perturbation; 1 or more.
        batch_size: images per update; 2 or more.
        goal: share of a batch that must reach the label for a change to count, in (0, 1].
        significance: p-value, corrected for all labels tested, below which a label is flagged; in (0, 1).
        confirm: attack success on held-out images that a flagged trigger must reach, in [0, 1].
        budget: seconds after which no further search begins or goes on, 0 for no limit; 0 or more.
        samples: images to use, half for searching, half held out; 20 or more.

    """

    name = "reference_network"

    updates: int = 200
    patch_steps: int = 80
    window_steps: int = 50
    additive_steps: int = 120
    batch_size: int = 16
    goal: float = 0.9
    significance: float = 0.02
    confirm: float = 0.75
    budget: float = 0.0
    samples: int = 600

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        for kind in ("patch", "window", "additive"):
            self.plan(kind)
        if self.updates < 1:
            raise OptionError(f"expected updates of 1 or more, got {self.updates}")
        if not 0 < self.significance < 1 or not 0 <= self.confirm <= 1:
            raise OptionError(
                "expected significance in (0, 1) and confirm in [0, 1], "
                f"got {self.significance:g} and {self.confirm:g}"
            )
        if not 0 <= self.budget < math.inf:
            raise OptionError(f"expected a budget of 0 seconds or more, got {self.budget:g}")

    def until(self) -> float:
        """Return when the time of a scan that begins now is up, by the monotonic clock."""
        return time.monotonic() + self.budget if self.budget else math.inf

    def plan(self, kind: Literal["patch", "window", "additive"]) -> Plan:
        """Return how patches that begin everywhere or in a window, or additive changes, are searched."""
        steps = {"patch": self.patch_steps, "window": self.window_steps, "additive": self.additive_steps}
        form = "additive" if kind == "additive" else "patch"
        return Plan(form=form, steps=steps[kind], batch_size=self.batch_size, goal=self.goal)

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge the tested labels; an interruption leaves what is known so far."""
        work = ReferenceSearches(self, model, ready, run)
        try:
            work.work()
        except KeyboardInterrupt:  # what is known so far is worth more than nothing
            work.interrupted = True
        return _Outcome(self, work).judged()


def for_few_labels(method: Settings) -> ReferenceNetwork:
    """Return the scan that takes over from the cascade where labels are too few to show what is usual."""
    patch, window, additive = (method.plan(kind) for kind in ("patch", "window", "additive"))
    return ReferenceNetwork(
        updates=max(1, 5 * patch.steps // 2),
        patch_steps=patch.steps,
        window_steps=window.steps,
        additive_steps=3 * additive.steps,  # a change that a reference does not know is found late
        batch_size=patch.batch_size,
        goal=patch.goal,
        significance=method.significance,
        confirm=method.confirm,
        budget=method.budget,
        samples=method.samples,
    )


class _Outcome:
    """What the searches come to, once they have ended."""

    def __init__(self, method: ReferenceNetwork, work: ReferenceSearches) -> None:
        self.method, self.work, self.ready, self.model = method, work, work.ready, work.model

    def judged(self) -> Judged:
        """Return what the sizes say."""
        weighed = self._weighed()
        known = {entry.label: entry for entry in weighed}
        looked_at = self.ready.tested if self.work.own else []
        findings = [self._finding(label, known.get(label)) for label in looked_at]
        return Judged(
            findings=tuple(findings),
            case=self._case(weighed, findings),
            criterion=Criterion(
                statistic=STATISTIC,
                direction="low",
                decides="p-value",
                significance=self.method.significance,
                confirm=self.method.confirm,
            ),
            passes=self.work.passes,
            warnings=self._of_reference(),
            details={
                "test": "one-sided t-test of the logarithm of how many times larger a trigger is that the "
                "reference does not know, against networks without a backdoor, Bonferroni over "
                f"{len(self.ready.tested)} labels and the effective number of the 3 statistics, "
                f"{POLICY.effective:g}",
                "agreement": self.work.agreement,
                "sizes": {str(entry.label): entry.facts() for entry in weighed},
                "policy": POLICY.facts(),
                "complete": self.work.complete,
                "cut_short": self.work.cut,
                "interrupted": self.work.interrupted,
                "stage_seconds": {stage: round(spent, 1) for stage, spent in self.work.seconds.items()},
                "not_tested": sorted({*self.ready.left_out, *self.ready.tested} - set(looked_at)),
            },
        )

    def _of_reference(self) -> tuple[str, ...]:
        """Return a warning that says what the labels were compared with."""
        if self.work.agreement is None:
            return ()
        said = (
            f"{self.model.num_classes} labels do not show what is usual for each other: a reference network "
            f"stands in for them, taught with {self.work.taught} of the images; it answers "
            f"{self.work.agreement:.0%} of the others as this network does"
        )
        return (said,)

    def _weighed(self) -> list[Private]:
        """Return what the two searches say of each label, if both were made."""
        if not self.work.own or not self.work.alone:
            return []
        return weigh_private(self.work.own, self.work.alone, len(self.ready.tested))

    def _shown(self, label: int, by: str) -> tuple[Found, str, float]:
        """Return the change to show, its form, and its success on held-out images: a small one that works."""
        known = [found for found in (self.work.own, self.work.alone) if found]
        tries = [(found[form][label], form) for form in (by, "patch", "additive") for found in known]
        worked = [
            (one, form, attack_success(self.model, one.trigger, *self.ready.held_out, label))
            for one, form in tries
        ]
        good = [entry for entry in worked if entry[2] >= self.method.confirm and math.isfinite(entry[0].size)]
        return good[0] if good else max(worked, key=lambda entry: entry[2])

    def _small(self, entry: Private | None) -> bool:
        """Whether the reference hardly knows a label's trigger, confirmed or not."""
        if entry is None or entry.ratio > POLICY.private_ratio:
            return False
        return entry.p_value < self.method.significance

    def _finding(self, label: int, entry: Private | None) -> Finding:
        found, form, success = self._shown(label, entry.by if entry else "patch")
        chance = None if entry is None else entry.p_value
        return finding(
            label,
            chance=chance,
            size=found.size,
            unit=UNITS[form],
            success=success,
            flagged=self._small(entry) and success >= self.method.confirm,
            confidence=None if chance is None else confidence_in(chance),
            trigger=found.trigger,
        )

    def _case(self, weighed: Sequence[Private], findings: Sequence[Finding]) -> Case:
        """Return what the verdict is made of."""
        looked = labels_tested(len(findings))
        targets = [one.label for one in findings if one.flagged]
        chances = [one.p_value for one in findings if one.flagged and one.p_value is not None]
        return Case(
            looked=looked,
            doubtful=self.ready.check.doubtful,
            unfinished="" if self.work.complete else self._cut_short(),
            targets=targets,
            sign=ONLY_HERE,
            chance=max(chances, default=None),
            doubt=self._doubt(weighed, looked),
            limits=[NOT_LOOKED_AT],
        )

    def _cut_short(self) -> str:
        """Return what was not looked at, or not to its end."""
        if self.work.interrupted:
            return "somebody stopped the search"
        return f"the time was up before the end of: {', '.join(self.work.cut)}"

    def _doubt(self, weighed: Sequence[Private], looked: str) -> str:
        """Return why silence means nothing, or an empty text."""
        if self.work.untrainable:
            return f"no reference network could be made: {self.work.untrainable} ({looked})"
        if self.work.agreement is not None and not weighed:
            return (
                f"with {self.model.num_classes} labels a reference network has to show what is usual, and "
                f"from {self.work.taught} images it learned to answer only {self.work.agreement:.0%} of "
                f"others as the network does: bring more images ({looked})"
            )
        if self.ready.made_up:
            return f"{ONLY_HERE.of([])}, but made-up images cannot show there is none ({looked})"
        first = weighed[0] if weighed else None
        near = first is not None and first.ratio <= POLICY.private_ratio
        if first and near and first.p_value < POLICY.private_suspect:
            why = "which hardly works on held-out images" if self._small(first) else "which may be chance"
            return (
                f"label {first.label} has a trigger that the reference network hardly knows, {why} "
                f"(p = {first.p_value:.2g}): look closer at it ({looked})"
            )
        return ""
