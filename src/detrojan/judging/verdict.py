"""Where every scan's findings and verdicts are written, so that they read alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detrojan.findings import (
    Criterion,
    Finding,
    Level,
    Unit,
    VerdictText,
    confidence_in,
    severity_of,
)
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a suspicious label shows: the end of a sentence that begins with the label.

    Attributes:
        one: the verb after one label, e.g. "needs".
        many: the verb after several, e.g. "need".
        what: what follows, e.g. "an abnormally small trigger".

    """

    one: str
    many: str
    what: str

    def of(self, labels: Sequence[int]) -> str:
        """Return that these labels show it, or that none does."""
        if not labels:
            return f"no label {self.one} {self.what}"
        names = ", ".join(map(str, labels))
        shown = f"labels {names} {self.many}" if len(labels) > 1 else f"label {names} {self.one}"
        return f"{shown} {self.what}"


#: of the scans that recover triggers
SMALL = Sign(one="needs", many="need", what="an abnormally small trigger")


def high(what: str) -> Sign:
    """Return the sign of the scans that give each label a score, named in words."""
    return Sign(one="has", many="have", what=f"an abnormally high {what}")


def often(whats: Sequence[str]) -> Sign:
    """Return the sign of labels that are answered to changed images, each change named in words."""
    what = " or ".join(dict.fromkeys(whats))
    return Sign(one="answers", many="answer", what=f"{what} far more often than usual labels do")


def labels_tested(count: int) -> str:
    """Return how many labels were tested, e.g. "1 label tested"."""
    return f"{count} label{'s' if count != 1 else ''} tested"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a verdict is made of. What comes first here goes before what comes after it.

    Attributes:
        looked: what was looked at, e.g. "43 labels tested".
        doubtful: whether the input range is doubtful, and every figure with it.
        unfinished: why not all was looked at, or empty; it counts where no label is a target.
        too_few: what is missing to say what is usual, or empty.
        targets: the labels taken for targets.
        sign: what they show.
        other: a backdoor that no single label shows, in words, or empty.
        chance: the p-value of the targets or of the other backdoor, 0 to 1; None where it is not shown.
        doubt: why silence means nothing, or empty.
        limits: what else the reader must know where nothing was found.

    """

    looked: str
    doubtful: bool
    unfinished: str = ""
    too_few: str = ""
    targets: Sequence[int]
    sign: Sign
    other: str = ""
    chance: float | None = None
    doubt: str = ""
    limits: Sequence[str] = ()

    def verdict(self) -> tuple[VerdictText, str]:
        """Return the verdict, and the sentence that says what it rests on."""
        chance = "" if self.chance is None else f"p = {self.chance:.2g}; "
        if self.doubtful:
            return "inconclusive", f"the input range is doubtful, and every figure with it ({self.looked})"
        if self.unfinished and not self.targets:
            return "inconclusive", f"{self.unfinished}; nothing found so far ({self.looked})"
        if self.too_few:
            return "inconclusive", f"{self.looked}; {self.too_few}"
        if self.targets or self.other:
            found = self.sign.of(self.targets) if self.targets else self.other
            return "backdoored", f"{found} ({chance}{self.looked})"
        if self.doubt:
            return "inconclusive", self.doubt
        return "no evidence", f"{self.sign.of([])} ({'; '.join([self.looked, *self.limits])})"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a scan's `judge` returns: its base makes the result of it.

    Attributes:
        findings: one entry per tested label, in the order of the labels.
        case: what the verdict is made of.
        criterion: what decided which labels are flagged.
        passes: forward+backward passes of one sample that were spent.
        warnings: what the reader must know beside what the preparation says.
        details: what else the report shows (plain JSON values).

    """

    findings: tuple[Finding, ...]
    case: Case
    criterion: Criterion
    passes: int
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def finding(
    label: int,
    *,
    aim: Aim | None = None,
    index: float | None = None,
    chance: float | None = None,
    size: float | None = None,
    unit: Unit | None = None,
    success: float | None = None,
    flagged: bool = False,
    confidence: Level | None = None,
    trigger: Trigger | None = None,
) -> Finding:
    """Return what is known of a label; only the label, where it was put aside.

    Args:
        label: the label that was tested.
        aim: of the trigger; None: all other labels' images to this one.
        index: robust standard deviations from what is usual, 0 or more.
        chance: its p-value, 0 to 1.
        size: of the trigger; infinite where none worked.
        unit: of the size.
        success: share of held-out images that the trigger moves, 0 to 1.
        flagged: whether it is taken for a target.
        confidence: how sure that is; None: by the p-value.
        trigger: the recovered one.

    """
    known = size is not None and math.isfinite(size)
    sure = confidence_in(1.0 if chance is None else chance) if confidence is None else confidence
    # how often the trigger works is not known where none is recovered
    unknown: Level = "medium" if flagged else "low"
    return Finding(
        label=label,
        aim=Aim(target=label) if aim is None else aim,
        anomaly_index=index,
        p_value=chance,
        size=size if known else None,
        unit=unit if known else None,
        attack_success=success,
        flagged=flagged,
        severity=unknown if success is None else severity_of(success),
        confidence=sure if flagged else "low",
        trigger=trigger,
    )
