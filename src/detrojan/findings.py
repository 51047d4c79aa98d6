"""What a scan says, as plain data: every report and every repair is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from detrojan.triggers.base import Trigger

VerdictText = Literal["backdoored", "no evidence", "inconclusive"]
Level = Literal["low", "medium", "high"]


def severity_of(success: float) -> Level:
    """Return how bad a trigger is that works on this share of images, 0 to 1."""
    return "high" if success >= 0.9 else "medium" if success >= 0.5 else "low"


def confidence_in(p_value: float) -> Level:
    """Return how sure a flagged label with this p-value is."""
    return "high" if p_value < 0.001 else "medium" if p_value < 0.01 else "low"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a scan learned about one label.

    Attributes:
        label: the label that was tested as a target, 0-based.
        anomaly_index: how far this label's statistic lies from the others', in robust standard
            deviations; 0 or more.
        mask_l1: sum of the recovered mask, in pixels (0 to height x width); where the trigger is added and
            not blended in, the count of the pixels that it changes, faint changes counting for less than
            1; NaN where the method recovers neither.
        attack_success: share of held-out images that the recovered trigger sends to `label`, 0 to 1;
            NaN where the method recovers no trigger.
        flagged: whether the scan holds this label for a backdoor's target.
        p_value: probability of such a statistic without a backdoor, or None where the method has none.
        severity: how bad it is if true: how often the trigger works.
        confidence: how sure the scan is.
        trigger: the recovered trigger, or None.
        source: the only label whose images the trigger sends to `label`, or None where it is every other.

    """

    label: int
    anomaly_index: float
    mask_l1: float
    attack_success: float
    flagged: bool
    p_value: float | None = None
    severity: Level = "low"
    confidence: Level = "low"
    trigger: Trigger | None = None
    source: int | None = None


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """A scan's verdict and what it rests on.

    Attributes:
        verdict: "backdoored", "no evidence" or "inconclusive"; never "clean".
        reason: one sentence on what the verdict rests on.
        findings: one entry per tested label, in the order of the labels.
        passes: forward+backward passes of one sample that were spent.
        warnings: what the reader must know, e.g. a doubtful input range.
        details: what else the report shows (plain JSON values).

    """

    verdict: VerdictText
    reason: str
    findings: tuple[Finding, ...]
    passes: int
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """The labels taken for targets, most anomalous first."""
        return tuple(sorted((f for f in self.findings if f.flagged), key=lambda f: -f.anomaly_index))

    @property
    def targets(self) -> list[int]:
        """The flagged labels in ascending order."""
        return sorted(finding.label for finding in self.findings if finding.flagged)


@dataclass(frozen=True, kw_only=True)
class RepairStep:
    """One step of a repair and what it measured.

    Attributes:
        method: the repair's name.
        summary: one sentence on what was done.
        curves: named series that the report plots, all of one length (e.g. "neurons pruned",
            "clean accuracy", "attack success").
        details: what else is recorded (plain JSON values).

    """

    method: str
    summary: str
    curves: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
