"""What a scan says, as plain data: every report and every repair is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

from detrojan.errors import OptionError
from detrojan.triggers.aim import Aim
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
class Unit:
    """What a number counts, as people read it. A method may bring a unit of its own.

    Attributes:
        name: a short name for tables and charts, e.g. "L2"; a report tells units apart by it.
        one: what follows the number 1, e.g. "unit of L2 norm".
        many: what follows any other, e.g. "units of L2 norm".
        meaning: what the number says, as the end of a sentence.

    """

    name: str
    one: str
    many: str
    meaning: str


#: of a mask; a trigger that is added counts the pixels that it changes
PIXELS = Unit(
    name="pixels",
    one="pixel",
    many="pixels",
    meaning="the sum of the mask's opacities, in pixels: how much of the image the trigger changes",
)
#: of a change of the whole image
L2 = Unit(
    name="L2",
    one="unit of L2 norm",
    many="units of L2 norm",
    meaning="the L2 norm of what is added to an image whose values go from 0 to 1",
)
#: of most anomaly indices
ROBUST = Unit(
    name="robust SD",
    one="robust standard deviation",
    many="robust standard deviations",
    meaning="in robust standard deviations (1.4826 times the median distance): of the trigger's size, of its "
    "logarithm, or of the method's score",
)
#: of the anomaly index of the CSAW report
SHARE_OF_MEDIAN = Unit(
    name="deviation / median",
    one="deviation / median",
    many="deviation / median",
    meaning="as a share of the median size",
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a scan learned about one label. What is not known is None.

    Attributes:
        label: the label that was tested as a target, 0-based.
        aim: which images the trigger moves, and where to; by default those of all other labels to `label`.
            All findings of an all-to-all backdoor have one aim, with an offset, and one trigger.
        anomaly_index: how far this label's statistic lies from the others', 0 or more; its unit is the
            criterion's.
        size: of the recovered trigger, 0 or more.
        unit: what the size counts; there is no size without one.
        attack_success: share of held-out images that the recovered trigger moves as its aim says, 0 to 1.
        flagged: whether the scan holds this label for a backdoor's target.
        p_value: probability of such a statistic without a backdoor, 0 to 1.
        severity: how bad it is if true: how often the trigger works.
        confidence: how sure the scan is.
        trigger: the recovered trigger.

    Raises:
        OptionError: a size without a unit, or an aim that leads to another label.

    """

    label: int
    aim: Aim = field(default=cast("Aim", None))  # never None: see below
    anomaly_index: float | None = None
    size: float | None = None
    unit: Unit | None = None
    attack_success: float | None = None
    flagged: bool
    p_value: float | None = None
    severity: Level = "low"
    confidence: Level = "low"
    trigger: Trigger | None = None

    def __post_init__(self) -> None:
        """Fill in the usual aim; refuse one that leads elsewhere, and a size that nobody could read."""
        if cast("Aim | None", self.aim) is None:
            object.__setattr__(self, "aim", Aim(target=self.label))
        if self.aim.target not in {None, self.label}:
            raise OptionError(
                f"expected an aim that leads to the label {self.label}, got the target {self.aim.target}"
            )
        if self.size is not None and self.unit is None:
            raise OptionError(f"expected a unit for a size of {self.size:g}, got none")


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What decided which labels a scan flagged. A bound that did not count is None.

    Attributes:
        statistic: what was compared between labels, for people, e.g. "size of the recovered trigger".
        direction: "low" where a small statistic is suspicious, "high" where a large one is.
        decides: which number of a finding decided, and is shown: its "index" or its "p-value".
        unit: of the anomaly index.
        threshold: anomaly index above which a label is flagged.
        significance: p-value below which a label is flagged, in (0, 1).
        ratio: the most that a flagged trigger has of the usual size, in (0, 1].
        confirm: attack success on held-out images that a flagged trigger reaches, 0 to 1.

    """

    statistic: str
    direction: Literal["low", "high"]
    decides: Literal["index", "p-value"]
    unit: Unit = ROBUST
    threshold: float | None = None
    significance: float | None = None
    ratio: float | None = None
    confirm: float | None = None


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """A scan's verdict and what it rests on.

    Attributes:
        verdict: "backdoored", "no evidence" or "inconclusive"; never "clean".
        reason: one sentence on what the verdict rests on.
        findings: one entry per tested label, in the order of the labels.
        passes: forward+backward passes of one sample that were spent.
        criterion: what decided which labels are flagged; None where nothing was compared.
        images: how many images were used; None where nobody counted.
        seconds: wall time.
        warnings: what the reader must know, e.g. a doubtful input range.
        details: what else the report shows (plain JSON values).

    """

    verdict: VerdictText
    reason: str
    findings: tuple[Finding, ...]
    passes: int
    criterion: Criterion | None = None
    images: int | None = None
    seconds: float = field(default=0.0, compare=False)
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """The labels taken for targets, most anomalous first."""
        return tuple(sorted((f for f in self.findings if f.flagged), key=lambda f: -(f.anomaly_index or 0.0)))

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
