"""What the scans share that recover a trigger for each label and judge it by its size alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from detrojan.errors import OptionError
from detrojan.findings import Finding, ScanResult, VerdictText, confidence_in, severity_of
from detrojan.judging.outliers import deviations_below, median, size_limit, small_p_values
from detrojan.judging.preparing import FEWEST_IMAGES, Prepared
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.search.engine import Found
from detrojan.search.jobs import Job

#: fewer labels than this say nothing about what is usual
FEWEST_LABELS = 5


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a trigger is abnormally small.

    Args:
        significance: p-value, corrected for all labels tested, below which a label is flagged; in (0, 1).
        ratio: a flagged trigger is at most this share of the usual size; in (0, 1].
        confirm: attack success on held-out images that a flagged trigger must reach, in [0, 1].

    Raises:
        OptionError: a value out of its range.

    """

    significance: float
    ratio: float
    confirm: float

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if not 0 < self.significance < 1 or not 0 < self.ratio <= 1 or not 0 <= self.confirm <= 1:
            raise OptionError(
                "expected significance in (0, 1), ratio in (0, 1] and confirm in [0, 1], "
                f"got {self.significance:g}, {self.ratio:g} and {self.confirm:g}"
            )


def check_samples(samples: int) -> None:
    """Refuse too few images.

    Raises:
        OptionError: fewer than 20.

    """
    if samples < FEWEST_IMAGES:
        raise OptionError(f"expected {FEWEST_IMAGES} samples or more, got {samples}")


def smallest(found: Mapping[Job, Found]) -> dict[int, Found]:
    """Return for each label the smallest trigger of all its starts."""
    best: dict[int, Found] = {}
    for job, one in found.items():
        if job.target not in best or one.size < best[job.target].size:
            best[job.target] = one
    return best


def size_result(
    model: Classifier,
    ready: Prepared,
    found: Mapping[int, Found],
    rule: Rule,
    *,
    controls: Collection[int] | None = None,
    unit: str,
    passes: int,
    details: dict[str, Any] | None = None,
) -> ScanResult:
    """Return what the sizes of the recovered triggers say.

    The logarithm of each size is tested against the usual ones' by a moderated t-test, corrected for
    all labels tested (Bonferroni); a flagged trigger is also small beside the usual one and works on
    held-out images.

    Args:
        model: the network.
        ready: what the scan was prepared with.
        found: by label, the smallest trigger; labels of `ready.tested` without one were put aside.
        rule: when a label is flagged.
        controls: labels that show what is usual; None: all that were searched.
        unit: what the sizes count.
        passes: forward+backward passes of one sample that were spent.
        details: what else the report shows.

    """
    judged = _Judged(model, ready, found, rule, controls)
    verdict, reason = judged.verdict(unit)
    sizes = {str(label): size for label, size in zip(judged.labels, judged.sizes.tolist(), strict=True)}
    return ScanResult(
        verdict=verdict,
        reason=reason,
        findings=tuple(judged.finding(label) for label in ready.tested),
        passes=passes,
        warnings=ready.warnings,
        details={
            "test": "moderated one-sided t-test of the logarithm of the size against the usual ones', "
            f"Bonferroni over {len(ready.tested)} labels",
            "sizes": {label: size if math.isfinite(size) else None for label, size in sizes.items()},
            "usual_size": judged.middle if math.isfinite(judged.middle) else None,
            "detectable": judged.limit,
            "unit": unit,
            "answers": ready.how,
            "images": ready.half,
            "held_out": len(ready.images) - ready.half,
            "not_tested": ready.left_out,
            "range_trials": [vars(trial) for trial in ready.check.trials],
            **(details or {}),
        },
    )


class _Judged:
    """Sizes, p-values and held-out success of every label that was searched."""

    def __init__(
        self,
        model: Classifier,
        ready: Prepared,
        found: Mapping[int, Found],
        rule: Rule,
        controls: Collection[int] | None,
    ) -> None:
        self.ready, self.found, self.rule = ready, found, rule
        self.labels, self.looks = sorted(found), len(ready.tested)
        self.sizes = torch.tensor([found[label].size for label in self.labels], dtype=torch.float64)
        pool = torch.tensor([controls is None or label in controls for label in self.labels])
        self.usual = pool & (self.sizes > rule.ratio * _middle(self.sizes[pool]))
        self.middle = _middle(self.sizes[self.usual])
        chances = small_p_values(self.sizes, self.usual).mul(self.looks).clamp(max=1)
        self.chances = dict(zip(self.labels, chances.tolist(), strict=True))
        limit = size_limit(self.sizes[self.usual], rule.significance / max(1, self.looks))
        self.limit = min(limit, rule.ratio * self.middle) if math.isfinite(self.middle) else 0.0
        images, truth = ready.held_out
        self.success = {
            label: attack_success(model, found[label].trigger, images, truth, label) for label in self.labels
        }

    def small(self, label: int) -> bool:
        """Whether the label's trigger is too small to be usual, confirmed or not."""
        small = self.found[label].size <= self.rule.ratio * self.middle
        return small and math.isfinite(self.middle) and self.chances[label] < self.rule.significance

    def flagged(self, label: int) -> bool:
        """Whether the label is taken for a target."""
        enough = len(self.labels) >= FEWEST_LABELS
        return enough and self.small(label) and self.success[label] >= self.rule.confirm

    def finding(self, label: int) -> Finding:
        """Return what is known of a label; nothing, if it was put aside."""
        if label not in self.found:
            nan = math.nan
            return Finding(label=label, anomaly_index=nan, mask_l1=nan, attack_success=nan, flagged=False)
        size, flagged, chance = self.found[label].size, self.flagged(label), self.chances[label]
        return Finding(
            label=label,
            anomaly_index=deviations_below(size, self.sizes[self.usual]),
            p_value=chance,
            mask_l1=size if math.isfinite(size) else math.nan,
            attack_success=self.success[label],
            flagged=flagged,
            severity=severity_of(self.success[label]),
            confidence=confidence_in(chance) if flagged else "low",
            trigger=self.found[label].trigger,
        )

    def verdict(self, unit: str) -> tuple[VerdictText, str]:
        """Return the verdict and the sentence that says why."""
        looked = f"{self.looks} label{'s' if self.looks != 1 else ''} tested"
        if len(self.labels) < self.looks:
            looked += f", {self.looks - len(self.labels)} of them by the screening alone"
        if self.ready.check.doubtful:
            return "inconclusive", f"the input range is doubtful, and every figure with it ({looked})"
        if len(self.labels) < FEWEST_LABELS:
            return "inconclusive", f"{looked}; {FEWEST_LABELS} or more are needed to say what is usual"
        targets = [label for label in self.labels if self.flagged(label)]
        if targets:
            return "backdoored", f"{_named(targets)} an abnormally small trigger ({looked})"
        doubtful = [label for label in self.labels if self.small(label)]
        if doubtful:
            text = f"{_named(doubtful)} an abnormally small trigger, which hardly works on held-out images"
            return "inconclusive", f"{text} ({looked})"
        if self.limit <= 0:
            return "inconclusive", f"too few triggers were found: more steps are needed ({looked})"
        needed = f"{self.limit:.3g} {unit} would have been one"
        return "no evidence", f"no label needs an abnormally small trigger ({looked}; {needed})"


def _named(labels: Sequence[int]) -> str:
    names = ", ".join(map(str, labels))
    return f"labels {names} need" if len(labels) > 1 else f"label {names} needs"


def _middle(sizes: torch.Tensor) -> float:
    finite = sizes[sizes.isfinite()]
    return median(finite) if len(finite) else math.inf
