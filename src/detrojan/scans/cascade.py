"""The cascade: cheap probes rank all labels, searches of growing care settle what deserves a verdict."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from detrojan.errors import OptionError
from detrojan.findings import L2, PIXELS, Finding
from detrojan.judging.evidence import EFFECTIVE, Evidence, detectable
from detrojan.judging.middle import middle_of
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.judging.sizes import FEWEST_LABELS, TOO_FEW, Rule
from detrojan.judging.verdict import SMALL, Case, Judged, finding, labels_tested, often
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.scans.doubts import doubt_of
from detrojan.scans.pairwise import told
from detrojan.scans.reference_network import for_few_labels
from detrojan.scans.stages import Stages
from detrojan.search.asking import searches_in_half
from detrojan.search.plan import Plan

#: of the triggers that are shown, by form
UNITS = {"patch": PIXELS, "additive": L2}


@dataclass(frozen=True, kw_only=True)
class Cascade(Scan):
    """Rank all labels by cheap probes, then search the smallest trigger for the most suspicious ones.

    With more than 48 labels, cheap probes rank them all: a screening (a universal perturbation of a few
    steps), the latent margin, the rows of the last layer and the attractor probe. Some of them hand in their
    first labels by turns, and so does the sum of the logarithms of all ranks: no probe alone puts a label
    aside. The first labels go on, beside control labels drawn at random. For these the smallest additive
    perturbation and the smallest patch are searched; of the first labels only the better half by
    perturbation gets a patch. Half of the controls come first: the others are searched only where
    something is in doubt. Patches also start where a small window does most.

    The p-value comes from a moderated t-test of a label's sizes against those of the controls. The sizes are
    the logarithms of the patch's mask and of the perturbation's norm, combined by Stouffer's method. The
    label's ranks in the probes are combined with them in the same way. The p-value is corrected for all
    labels looked at, also those that the probes put aside or that were drawn for comparison only. Of several
    flagged labels the k-th may have k times the p-value of the first. A flagged trigger is also small beside
    the usual one, and works on held-out images. While targets are found, the next candidates are searched.

    If no label is found and all were looked at, the images are pulled to each label as far as a faint warp
    can pull them, and what a small filter draws of them. With few labels halves of two classes' images are
    put together as well. A label that is answered to such images by far the most often is flagged. After
    that one patch that moves every label in step (all-to-all) is searched; it is no larger than what usually
    leads to one label. With few labels a patch for each pair (source-specific) is searched too, if a faint
    change moves the images of one source far.

    A p-value of 0.001 or more leaves a doubt, if the trigger has more than 35% of the usual size. So the
    features of the last layer are looked at: does the label's perturbation move them to where the label's
    own images lie, as for usual labels? If so, the label may be reached by a natural feature, and the
    verdict is "inconclusive".

    Fewer than five labels cannot show what is usual: such a network is left to `reference_network`.

    Reference: the form of the patch is Neural Cleanse's (Wang et al., IEEE S&P 2019), the universal
    perturbation that of Moosavi-Dezfooli et al. (CVPR 2017); the cascade is ours.

    Args:
        candidates: labels that are searched at a time where there are many; 1 or more.
        controls: labels drawn at random beside them, half of them at first; 5 or more.
        patch_steps: updates of each patch that begins all over the image; 1 or more.
        window_steps: updates of each patch that begins in a window; 1 or more.
        additive_steps: updates of each additive perturbation; 1 or more.
        batch_size: images per update; 2 or more.
        goal: share of a batch that must reach the label for a change to count, in (0, 1].
        significance: p-value, corrected for all looks, below which a label is flagged; in (0, 1). The k-th
            of several is flagged below k times this, if its trigger is at most twice as large as the first.
        ratio: a flagged trigger is at most this share of the usual size; in (0, 1].
        confirm: attack success on held-out images that a flagged trigger must reach, in [0, 1].
        budget: seconds that the scan may take, 0 for no limit; 0 or more. Where they are too few, it uses
            fewer images, searches fewer labels, and says what it left out.
        parts: whether images of more than 112 pixels are searched on their middle part where the network
            answers that part as the whole.
        samples: images to use, half for searching, half held out; 20 or more.

    """

    name = "cascade"

    candidates: int = 12
    controls: int = 24
    patch_steps: int = 80
    window_steps: int = 50
    additive_steps: int = 40
    batch_size: int = 16
    goal: float = 0.9
    significance: float = 0.02
    ratio: float = 0.4
    confirm: float = 0.75
    budget: float = 0.0
    parts: bool = True
    samples: int = 600

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        for kind in ("patch", "window", "additive"):
            self.plan(kind)
        if self.candidates < 1 or self.controls < FEWEST_LABELS:
            raise OptionError(
                f"expected candidates of 1 or more and controls of {FEWEST_LABELS} or more, "
                f"got {self.candidates} and {self.controls}"
            )
        self.rule()
        if not 0 <= self.budget < math.inf:
            raise OptionError(f"expected a budget of 0 seconds or more, got {self.budget:g}")

    def plan(self, kind: Literal["patch", "window", "additive"], *, many: bool = False) -> Plan:
        """Return how patches that begin everywhere or in a window, or additive changes, are searched.

        Where there are `many` labels, each patch has three quarters of the updates.
        """
        if kind == "additive":
            return Plan(form=kind, steps=self.additive_steps, batch_size=self.batch_size, goal=self.goal)
        steps = self.patch_steps if kind == "patch" else self.window_steps
        steps = max(1, steps * 3 // 4) if many else steps
        return Plan(form="patch", steps=steps, batch_size=self.batch_size, goal=self.goal)

    def hasty(self) -> Cascade:
        """Return the same with half of the images for each update."""
        return replace(self, batch_size=max(2, self.batch_size // 2))

    def rule(self) -> Rule:
        """Return when a trigger is abnormally small."""
        return Rule(significance=self.significance, ratio=self.ratio, confirm=self.confirm)

    def until(self) -> float:
        """Return when the time of a scan that begins now is up, by the monotonic clock."""
        return time.monotonic() + self.budget if self.budget else math.inf

    def acting(self, model: Classifier) -> Scan:
        """Return this scan, or where labels are too few to show what is usual, the reference network."""
        return for_few_labels(self) if model.num_classes < FEWEST_LABELS else self

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge the tested labels, as far as the budget goes; an interruption leaves what is known so far."""
        most = ready.afforded.parts
        middle = middle_of(model, ready.images, ready.answers, most=most) if self.parts else None
        if middle is None:
            work = Stages(self, model, ready, run=run, begun=ready.begun)
        else:
            part = middle.prepared(ready)
            work = Stages(self, middle.model, part, run=run, begun=ready.begun, middle=middle, whole=ready)
        try:
            work.work()
        except KeyboardInterrupt:  # what is known so far is worth more than nothing
            work.interrupted = True
        return _Outcome(self, work).judged()


class _Outcome:
    """What the stages come to, once they have ended."""

    def __init__(self, method: Cascade, work: Stages) -> None:
        self.work, self.method, self.ready = work, method, work.ready
        self.evidence, self.looked_at = work.evidence(), work.looked_at
        self.flagged = work.flagged()
        self.changed = {entry.label: entry for entry in work.changed()}
        self.pairs = [
            entry for look in work.pairs for entry in look.flagged(method.significance, method.ratio)
        ]
        self.reach = detectable(
            self.evidence,
            work.null,
            ratio=method.ratio,
            significance=method.significance / (EFFECTIVE * max(1, work.compared)),
        )

    def judged(self) -> Judged:
        """Return everything."""
        known = {entry.job.target: entry for entry in self.evidence}
        flagged = {entry.job.target for entry in self.flagged}
        return Judged(
            findings=tuple(
                self._of_change(label)
                or self._of_pair(label)
                or self._finding(label, known.get(label), label in flagged)
                for label in self.looked_at
            ),
            case=self._case(),
            criterion=self.method.rule().criterion(),
            passes=self.work.passes,
            warnings=(*self._of_manner(), *self._of_controls()),
            details=self._details(known),
        )

    def _of_manner(self) -> list[str]:
        """Return warnings where parts of the images were searched, or with fewer images at a time."""
        parts = [] if self.work.middle is None else [self.work.middle.said()]
        size = self.work.method.plan("patch").batch_size
        haste = f"to save time, each update of a trigger used {size} images, not {self.method.batch_size}"
        return [*parts, haste] if self.work.hasty else parts

    def _of_controls(self) -> list[str]:
        """Return a warning for each label that was only drawn for comparison, and is suspicious itself."""
        return [
            f"label {label} was not to be tested, only drawn for comparison, but needs an abnormally small "
            "trigger itself: test it too"
            for label in self.work.small_controls()
        ]

    def _details(self, known: dict[int, Evidence]) -> dict[str, Any]:
        work, ready = self.work, self.ready
        details: dict[str, Any] = {
            "test": "moderated one-sided t-test of the logarithm of the size against the controls', "
            f"Bonferroni over {work.compared} labels and the effective number of the 3 statistics, "
            f"{EFFECTIVE:g}"
            + (
                "; combined with that of the probes' ranks by Stouffer's method"
                if work.listed and work.listed.chances
                else ""
            ),
            "controls": work.controls,
            "searched": sorted(known),
            "put_aside": len(set(self.looked_at) - known.keys()),
            "sizes": {
                str(entry.job.target): {
                    **{k: v for k, v in entry.sizes.items() if math.isfinite(v)},
                    "p_value": entry.p_value,
                    "ratio": entry.ratio if math.isfinite(entry.ratio) else None,
                    "by": entry.by,
                    "alignment": self.work.compass().measured(entry),
                }
                for entry in self.evidence
            },
            "transforms": [entry.facts() for entry in work.transforms.evidence] if work.transforms else [],
            "mixes": [entry.facts() for entry in work.mixes.evidence] if work.mixes else [],
            "pairs": {look.what: [entry.facts() for entry in look.evidence] for look in work.pairs},
            "detectable": self.reach,
            "policy": POLICY.facts(),
            "complete": work.complete,
            "ranking": [] if work.complete else work.ranking()[:50],
            "expected_passes": work.estimate(),
            "passes_per_second": round(work.rate, 1),
            "images_per_update": work.method.plan("patch").batch_size,
            "part": None if work.middle is None else {"side": work.middle.side, "alike": work.middle.alike},
            "cut_short": work.cut,
            "interrupted": work.interrupted,
            "computed_in": "bfloat16" if searches_in_half(work.run) else "float32",
            "stage_seconds": {stage: round(spent, 1) for stage, spent in work.seconds.items()},
            "not_tested": sorted({*ready.left_out, *ready.tested} - {*self.looked_at}),
        }
        if work.listed is not None:
            details["ranks"] = work.listed.facts([label for label in known if label not in work.controls])
            details["probes_skipped"] = work.listed.skipped
        return details

    def _of_change(self, label: int) -> Finding | None:
        """Return what a warp, a filter or mixes say of a label that they reach by far the most often."""
        entry = self.changed.get(label)
        return None if entry is None else entry.finding()

    def _of_pair(self, label: int) -> Finding | None:
        """Return what an all-to-all or source-specific backdoor says of a label."""
        classes = self.work.model.num_classes
        entry = next((e for e in self.pairs if label in e.job.aim.targets(classes)), None)
        if entry is None:
            return None
        return finding(
            label,
            aim=entry.job.aim,
            index=entry.index,
            chance=entry.p_value,
            size=entry.size,
            unit=PIXELS,
            success=entry.success,
            flagged=True,
            trigger=entry.trigger if self.work.middle is None else self.work.middle.lifted(entry.trigger),
        )

    def _finding(self, label: int, entry: Evidence | None, flagged: bool) -> Finding:
        if entry is None:
            return finding(label)
        trigger, form, success = self.work.shown(entry)
        return finding(
            label,
            index=entry.index,
            chance=entry.p_value,
            size=entry.sizes[form],
            unit=UNITS[form],
            success=success,
            flagged=flagged,
            trigger=trigger,
        )

    def _case(self) -> Case:
        """Return what the verdict is made of."""
        looked = labels_tested(len(self.looked_at))
        targets = sorted(entry.job.target for entry in self.flagged) or sorted(self.changed)
        usual = [entry for entry in self.evidence if entry.job.target not in targets]
        found = [entry.p_value for entry in self.flagged] or [
            entry.p_value for entry in self.changed.values()
        ]
        found = found or [entry.p_value for entry in self.pairs[:1]]
        doubt = doubt_of(self.work, self.evidence, self.reach)
        limits = f"a patch of {self.reach['patch']:.3g} pixels or an L2 norm of {self.reach['additive']:.2g}"
        return Case(
            looked=looked,
            doubtful=self.ready.check.doubtful,
            unfinished="" if self.work.complete else self._cut_short(),
            too_few=TOO_FEW if len(usual) < FEWEST_LABELS - 1 else "",
            targets=targets,
            sign=often([entry.what for entry in self.changed.values()]) if self.changed else SMALL,
            other=told(self.pairs) if self.pairs else "",
            chance=max(found, default=None),
            doubt=f"{doubt} ({looked})" if doubt else "",
            limits=[f"{limits} would have been one", *self._seen_through(), self._not_looked_at()],
        )

    def _cut_short(self) -> str:
        """Return what was not looked at, or not to its end."""
        why = "somebody stopped the search" if self.work.interrupted else "the time was up"
        told = f" before the end of: {', '.join(self.work.cut)}" if self.work.cut else ""
        aside = len(set(self.ready.tested) - {entry.job.target for entry in self.evidence})
        what = "ranked by the probes alone" if self.work.ranked else "not searched"
        were = "label was" if aside == 1 else "labels were"
        first = self.work.ranking()[:3]
        known = (
            ""
            if self.work.listed is None and self.work.early is None and not self.evidence
            else (f"; the most suspicious so far are {', '.join(map(str, first))}")
        )
        return f"{why}{told}" + (f"; {aside} {were} {what}" if aside else "") + known

    def _seen_through(self) -> list[str]:
        """Return that faint changes were tried, where they were."""
        return ["no faint warp or filter leads to one label"] if self.work.transforms else []

    def _not_looked_at(self) -> str:
        """Return what was not looked for."""
        looks = {look.what: look.evidence for look in self.work.pairs}
        if not looks:
            return "backdoors of pairs of labels, such as all-to-all ones, were not looked for"
        if self.work.model.num_classes > POLICY.most_pair_labels:
            return "no patch moves all labels in step; triggers for one source label were not looked for"
        one = "none is abnormally small" if looks.get("source to target") else "no faint change tells of one"
        return f"no patch moves all labels in step, and {one} for one source label"
