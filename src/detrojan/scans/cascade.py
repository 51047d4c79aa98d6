"""The cascade: cheap probes rank all labels, searches of growing care settle what deserves a verdict."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from detrojan.data.dataset import Dataset
from detrojan.data.synthetic import is_made_up
from detrojan.errors import OptionError
from detrojan.findings import Finding, Level, ScanResult, VerdictText
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.scans.evidence import Evidence, detectable, weigh
from detrojan.scans.preparing import FEWEST_IMAGES, Prepared, prepare
from detrojan.scans.shortlist import Shortlist, shortlist
from detrojan.search.engine import Found, Job, Plan, Searched, search

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: up to this many labels are all searched; more are ranked first
ALL = 48
#: up to this many labels all get every random start, since one bad start could hide any of them
FEW = 16
#: fewer labels than this say nothing about what is usual
FEWEST_LABELS = 5
#: a label that is not flagged makes the verdict inconclusive below this p-value and this share of the
#: usual size: far too small a trigger for "no evidence", though with many labels no proof either
SUSPECT_CHANCE, SUSPECT_RATIO = 0.5, 0.3
#: the most batches of candidates that are searched after targets were found
MOST_BATCHES = 4


@dataclass(frozen=True, kw_only=True)
class Cascade(Scan):
    """Rank all labels by cheap probes, then search the smallest trigger for the most suspicious ones.

    With more than 48 labels, a screening (a universal perturbation of a few steps), the latent margin
    and the attractor probe rank them all; the first ones go on beside control labels drawn at
    random. For each of these the smallest additive perturbation and the smallest patch are searched;
    the smallest patches are tried again from other random starts. The p-value is a moderated t-test
    of a label's sizes (logarithms of the patch's mask, of the perturbation's norm, and their mean)
    against the controls', combined with that of its probes' scores by Brown's method, and corrected
    for all labels looked at, those that the probes put aside included. A flagged trigger is also
    small beside the usual one and works on held-out images. While targets are found, the next
    candidates are searched.

    Reference: the form of the patch is Neural Cleanse's (Wang et al., IEEE S&P 2019), the universal
    perturbation that of Moosavi-Dezfooli et al. (CVPR 2017); the cascade is ours.

    Args:
        candidates: labels that are searched at a time where there are many; 1 or more.
        controls: labels drawn at random beside them; 5 or more.
        patch_steps: updates of each patch; 1 or more.
        additive_steps: updates of each additive perturbation; 1 or more.
        batch_size: images per update; 2 or more.
        finalists: labels with the smallest patches that get further random starts, where there are more
            than a few labels; 0 or more.
        restarts: random starts of each finalist, the first included; 1 or more.
        goal: share of a batch that must reach the label for a change to count, in (0, 1].
        significance: p-value, corrected for all looks, below which a label is flagged; in (0, 1).
        ratio: a flagged trigger is at most this share of the usual size; in (0, 1].
        confirm: attack success on held-out images that a flagged trigger must reach, in [0, 1].
        budget: seconds after which no further search begins or goes on, 0 for no limit; 0 or more.
        samples: images to use, half for searching, half held out; 20 or more.

    """

    name = "cascade"

    candidates: int = 12
    controls: int = 16
    patch_steps: int = 80
    additive_steps: int = 40
    batch_size: int = 16
    finalists: int = 4
    restarts: int = 3
    goal: float = 0.9
    significance: float = 0.02
    ratio: float = 0.4
    confirm: float = 0.75
    budget: float = 0.0
    samples: int = 600

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        self.plan("patch")
        self.plan("additive")
        if self.candidates < 1 or self.controls < FEWEST_LABELS or self.finalists < 0 or self.restarts < 1:
            raise OptionError(
                f"expected candidates of 1 or more, controls of {FEWEST_LABELS} or more, finalists of 0 or "
                f"more and restarts of 1 or more, got {self.candidates}, {self.controls}, "
                f"{self.finalists} and {self.restarts}"
            )
        if not 0 < self.significance < 1 or not 0 < self.ratio <= 1 or not 0 <= self.confirm <= 1:
            raise OptionError(
                "expected significance in (0, 1), ratio in (0, 1] and confirm in [0, 1], "
                f"got {self.significance:g}, {self.ratio:g} and {self.confirm:g}"
            )
        if not 0 <= self.budget < math.inf:
            raise OptionError(f"expected a budget of 0 seconds or more, got {self.budget:g}")
        if self.samples < FEWEST_IMAGES:
            raise OptionError(f"expected {FEWEST_IMAGES} samples or more, got {self.samples}")

    def plan(self, form: str) -> Plan:
        """Return how changes of a form are searched."""
        steps = self.patch_steps if form == "patch" else self.additive_steps
        return Plan(form=form, steps=steps, batch_size=self.batch_size, goal=self.goal)

    def scan(
        self, model: Classifier, data: Dataset, *, run: Run, labels: Sequence[int] | None = None
    ) -> ScanResult:
        """Judge `model` on clean `data`, testing `labels` as targets (None: all).

        Raises:
            DataError: images of another shape, or fewer than 20.
            LabelError: a label beyond the model's classes.

        """
        begun = time.monotonic()
        ready = prepare(model, data, labels, self.samples, run)
        if ready.obstacle:
            return ready.refusal()
        work = _Cascade(self, model, ready, run, begun)
        try:
            work.work()
        except KeyboardInterrupt:  # what is known so far is worth more than nothing
            work.interrupted, work.complete = True, False
        return work.result(strange=is_made_up(data))


@dataclass
class _Cascade:
    """One scan under way."""

    method: Cascade
    model: Classifier
    ready: Prepared
    run: Run
    begun: float
    controls: list[int] = field(default_factory=list)
    listed: Shortlist | None = None
    found: dict[str, dict[Job, Found]] = field(default_factory=lambda: {"patch": {}, "additive": {}})
    success: dict[Job, float] = field(default_factory=dict)
    passes: int = 0
    complete: bool = True
    interrupted: bool = False

    @property
    def looks(self) -> int:
        """How many labels were looked at."""
        return len(self.ready.tested)

    @property
    def null(self) -> list[Job] | None:
        """The jobs that show what is usual, or None where all labels are searched."""
        return [Job(label) for label in self.controls] or None

    def stop(self) -> bool:
        """Whether the time is up."""
        budget = self.method.budget
        return 0 < budget < time.monotonic() - self.begun

    def work(self) -> None:
        """Rank the labels if there are many, then search batch after batch while targets are found."""
        tested = self.ready.tested
        if len(tested) <= ALL:
            self._search(tested)
            if len(tested) < self.model.num_classes and len(tested) < self.method.controls:
                self.controls = self._drawn(set(tested))
                self._search(self.controls)
            self._again(tested)
            return
        self.listed = self._timed(
            "probes", lambda: shortlist(self.model, self.ready, run=self.run, stop=self.stop)
        )
        self.passes += self.listed.passes
        order, count = self.listed.order, self.method.candidates
        self.controls = self._drawn(set(order[: 2 * count]))
        for batch in range(MOST_BATCHES):
            candidates = [label for label in order if label not in self.controls]
            candidates = candidates[batch * count : (batch + 1) * count]
            self._search([*candidates, *self.controls] if batch == 0 else candidates)
            self._again(candidates)
            new = {entry.job.target for entry in self.flagged()} & set(candidates)
            if not new or self.stop():
                break

    def _drawn(self, without: set[int]) -> list[int]:
        """Return control labels, drawn from all but these."""
        labels = self.ready.tested if self.listed else range(self.model.num_classes)
        pool = [label for label in labels if label not in without]
        chosen = torch.randperm(len(pool), generator=self.run.generator("controls"))
        return sorted(pool[place] for place in chosen[: self.method.controls].tolist())

    def _search(self, labels: Sequence[int]) -> None:
        """Search both forms for these labels."""
        for form in ("additive", "patch"):
            self._seek(form, [Job(label) for label in labels], f"{form} triggers")

    def _again(self, labels: Sequence[int]) -> None:
        """Search the smallest patches again from other random starts: one start can end badly."""
        patches = self.found["patch"]
        order = [Job(label) for label in labels if Job(label) in patches]
        order.sort(key=lambda job: patches[job].size)
        starts = range(1, self.method.restarts)
        count = len(order) if len(self.ready.tested) <= FEW else self.method.finalists
        jobs = [replace(job, start=start) for job in order[:count] for start in starts]
        self._seek("patch", jobs, "finalists")

    def _seek(self, form: str, jobs: Sequence[Job], title: str) -> None:
        if not jobs or self.stop():
            self.complete &= not jobs
            return
        images, truth = self.ready.search
        plan = self.method.plan(form)
        found: Searched = self._timed(
            title,
            lambda: search(self.model, images, truth, jobs, plan, run=self.run, title=title, stop=self.stop),
        )
        self.found[form] |= found.found
        self.passes += found.passes
        self.complete &= found.complete

    def _timed(self, title: str, job: Callable[[], Result]) -> Result:
        begun = time.monotonic()
        result = job()
        logger.debug("%s: %.1f s", title, time.monotonic() - begun)
        return result

    def evidence(self) -> list[Evidence]:
        """Return what is known so far, the strongest first."""
        chances = self.listed.chances if self.listed else None
        return weigh(
            self.found, controls=self.null, ratio=self.method.ratio, looks=self.looks, probes=chances
        )

    def flagged(self) -> list[Evidence]:
        """Return the evidence that is strong enough, and confirmed on held-out images."""
        method = self.method
        strong = [
            entry
            for entry in self.evidence()
            if entry.p_value < method.significance and entry.ratio <= method.ratio
        ]
        return [entry for entry in strong if self.works(entry) >= method.confirm]

    def chosen(self, entry: Evidence) -> Found:
        """Return the change to show: of the form that is the stronger evidence, a patch if in doubt."""
        form = "additive" if entry.by == "additive" else "patch"
        return entry.found[form]

    def works(self, entry: Evidence) -> float:
        """Return the attack success of the shown change on held-out images."""
        if entry.job not in self.success:
            images, truth = self.ready.held_out
            trigger = self.chosen(entry).trigger
            self.success[entry.job] = attack_success(self.model, trigger, images, truth, entry.job.target)
        return self.success[entry.job]

    def result(self, *, strange: bool) -> ScanResult:
        """Return the verdict and what it rests on."""
        evidence = self.evidence()
        targets = {entry.job.target for entry in self.flagged()}
        known = {entry.job.target: entry for entry in evidence}
        asked = set(self.ready.tested)
        findings = tuple(
            self._finding(label, known.get(label), label in targets) for label in self.ready.tested
        )
        reach = detectable(
            evidence,
            self.null,
            ratio=self.method.ratio,
            significance=self.method.significance / (3 * max(1, self.looks)),
        )
        verdict, reason = self._verdict(sorted(targets & asked), evidence, reach, strange=strange)
        details: dict[str, Any] = {
            "test": "moderated one-sided t-test of the logarithm of the size against the controls', "
            f"Bonferroni over {self.looks} labels and 3 statistics",
            "controls": self.controls,
            "searched": sorted(known),
            "put_aside": len(asked - known.keys()),
            "sizes": {
                str(entry.job.target): {
                    **{k: v for k, v in entry.sizes.items() if math.isfinite(v)},
                    "p_value": entry.p_value,
                    "ratio": entry.ratio if math.isfinite(entry.ratio) else None,
                    "by": entry.by,
                }
                for entry in evidence
            },
            "detectable": reach,
            "complete": self.complete,
            "interrupted": self.interrupted,
            "answers": self.ready.how,
            "images": self.ready.half,
            "held_out": len(self.ready.images) - self.ready.half,
            "not_tested": self.ready.left_out,
            "range_trials": [vars(trial) for trial in self.ready.check.trials],
        }
        if self.listed is not None:
            details["ranks"] = self.listed.facts([label for label in known if label not in self.controls])
            details["probes_skipped"] = self.listed.skipped
        return ScanResult(
            verdict=verdict,
            reason=reason,
            findings=findings,
            passes=self.passes,
            warnings=self.ready.warnings,
            details=details,
        )

    def _finding(self, label: int, entry: Evidence | None, flagged: bool) -> Finding:
        if entry is None:
            return Finding(
                label=label, anomaly_index=math.nan, mask_l1=math.nan, attack_success=math.nan, flagged=False
            )
        success = self.works(entry)
        confidence: Level = "high" if entry.p_value < 0.001 else "medium" if entry.p_value < 0.01 else "low"
        return Finding(
            label=label,
            anomaly_index=max(0.0, -math.log(max(entry.ratio, 1e-6))) if math.isfinite(entry.ratio) else 0.0,
            p_value=entry.p_value,
            mask_l1=entry.sizes["patch"] if math.isfinite(entry.sizes["patch"]) else math.nan,
            attack_success=success,
            flagged=flagged,
            severity="high" if success >= 0.9 else "medium" if success >= 0.5 else "low",
            confidence=confidence if flagged else "low",
            trigger=self.chosen(entry).trigger,
        )

    def _verdict(
        self, targets: Sequence[int], evidence: Sequence[Evidence], reach: dict[str, float], *, strange: bool
    ) -> tuple[VerdictText, str]:
        looked = f"{self.looks} label{'s' if self.looks != 1 else ''} tested"
        if self.ready.check.doubtful:
            return "inconclusive", f"the input range is doubtful, and every figure with it ({looked})"
        usual = [e for e in evidence if e.job.target not in targets]
        if len(usual) < FEWEST_LABELS - 1:
            return "inconclusive", f"{looked}; {FEWEST_LABELS} or more are needed to say what is usual"
        if targets:
            names = ", ".join(map(str, targets))
            named = f"labels {names} need" if len(targets) > 1 else f"label {names} needs"
            chance = max(e.p_value for e in evidence if e.job.target in targets)
            return "backdoored", f"{named} an abnormally small trigger (p = {chance:.2g}; {looked})"
        if not self.complete:
            return (
                "inconclusive",
                f"the searches were cut short; nothing found so far ({looked})",
            )
        doubt = self._doubt(evidence, reach, strange=strange)
        if doubt:
            return "inconclusive", f"{doubt} ({looked})"
        limits = f"a patch of {reach['patch']:.3g} pixels or an L2 norm of {reach['additive']:.2g}"
        reason = f"no label needs an abnormally small trigger ({looked}; {limits} would have been one)"
        return "no evidence", reason

    def _doubt(self, evidence: Sequence[Evidence], reach: dict[str, float], *, strange: bool) -> str:
        """Return why silence means nothing, or an empty text."""
        if evidence and evidence[0].p_value < SUSPECT_CHANCE and evidence[0].ratio <= SUSPECT_RATIO:
            first = evidence[0]
            return (
                f"label {first.job.target} needs a trigger of {first.ratio:.0%} of the usual size, which may "
                f"be chance among so many labels (p = {first.p_value:.2g}): look closer at it"
            )
        if strange:
            return "no label needs an abnormally small trigger, but made-up images cannot show there is none"
        if max(reach["patch"], reach["additive"]) <= 0:
            return "no label needs an abnormally small trigger, but too few triggers were found"
        return ""
