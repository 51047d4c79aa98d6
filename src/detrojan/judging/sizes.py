"""What the scans share that recover a trigger for each label and judge it by its size alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from detrojan.errors import OptionError
from detrojan.findings import Criterion, Finding, Unit
from detrojan.judging.outliers import deviations_below, finite_median, size_limit, small_p_values
from detrojan.judging.preparing import Prepared
from detrojan.judging.verdict import SMALL, Case, Judged, finding, labels_tested
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.search.jobs import Job
from detrojan.search.plan import Found

#: fewer labels than this say nothing about what is usual
FEWEST_LABELS = 5
TOO_FEW = f"{FEWEST_LABELS} or more are needed to say what is usual"
#: what is compared, for people
STATISTIC = "size of the recovered trigger"


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

    def criterion(self) -> Criterion:
        """Return the rule as a result holds it."""
        return Criterion(
            statistic=STATISTIC,
            direction="low",
            decides="p-value",
            significance=self.significance,
            ratio=self.ratio,
            confirm=self.confirm,
        )


def smallest(found: Mapping[Job, Found]) -> dict[int, Found]:
    """Return for each label the smallest trigger of all its starts."""
    best: dict[int, Found] = {}
    for job, one in found.items():
        if job.target not in best or one.size < best[job.target].size:
            best[job.target] = one
    return best


def judged_by_size(
    model: Classifier,
    ready: Prepared,
    found: Mapping[int, Found],
    rule: Rule,
    *,
    controls: Collection[int] | None = None,
    unit: Unit,
    counted: str,
    passes: int,
    details: dict[str, Any] | None = None,
) -> Judged:
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
        unit: of the sizes.
        counted: what the sizes count, in a sentence on how small is too small.
        passes: forward+backward passes of one sample that were spent.
        details: what else the report shows.

    """
    judged = _Sizes(model, ready, found, rule, controls)
    sizes = {str(label): size for label, size in zip(judged.labels, judged.sizes.tolist(), strict=True)}
    return Judged(
        findings=tuple(judged.finding(label, unit) for label in ready.tested),
        case=judged.case(counted),
        criterion=rule.criterion(),
        passes=passes,
        details={
            "test": "moderated one-sided t-test of the logarithm of the size against the usual ones', "
            f"Bonferroni over {len(ready.tested)} labels",
            "sizes": {label: size if math.isfinite(size) else None for label, size in sizes.items()},
            "usual_size": judged.middle if math.isfinite(judged.middle) else None,
            "detectable": judged.limit,
            "unit": counted,
            **(details or {}),
        },
    )


class _Sizes:
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
        self.usual = pool & (self.sizes > rule.ratio * finite_median(self.sizes[pool]))
        self.middle = finite_median(self.sizes[self.usual])
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

    def finding(self, label: int, unit: Unit) -> Finding:
        """Return what is known of a label; nothing, if it was put aside."""
        if label not in self.found:
            return finding(label)
        size = self.found[label].size
        return finding(
            label,
            index=deviations_below(size, self.sizes[self.usual]),
            chance=self.chances[label],
            size=size,
            unit=unit,
            success=self.success[label],
            flagged=self.flagged(label),
            trigger=self.found[label].trigger,
        )

    def case(self, counted: str) -> Case:
        """Return what the verdict is made of."""
        looked = labels_tested(self.looks)
        if len(self.labels) < self.looks:
            looked += f", {self.looks - len(self.labels)} of them by the screening alone"
        return Case(
            looked=looked,
            doubtful=self.ready.check.doubtful,
            too_few=TOO_FEW if len(self.labels) < FEWEST_LABELS else "",
            targets=[label for label in self.labels if self.flagged(label)],
            sign=SMALL,
            doubt=self._doubt(looked),
            limits=[f"{self.limit:.3g} {counted} would have been one"],
        )

    def _doubt(self, looked: str) -> str:
        """Return why silence means nothing, or an empty text."""
        doubtful = [label for label in self.labels if self.small(label)]
        if doubtful:
            return f"{SMALL.of(doubtful)}, which hardly works on held-out images ({looked})"
        if self.limit <= 0:
            return f"too few triggers were found: more steps are needed ({looked})"
        return ""
