"""What the words and the numbers of a finding mean, for the reader of a page."""

from __future__ import annotations

from collections.abc import Sequence

from detrojan.report.schema import Evidence, FlaggedLabel, RepairReport, ScanReport
from detrojan.report.sentences import by_median

_SEVERITY = (
    "how bad it is if true: high where the recovered trigger works on 90% of the held-out images or more, "
    "medium from 50%, else low; medium where the method recovers no trigger."
)
_CONFIDENCE = (
    "how sure the scan is that the label is a target: high with a p-value below 0.001, medium below 0.01, "
    "else low. neural_cleanse goes by the mask: high where it is a third of the usual size or less, "
    "medium at half. An inconclusive scan states none."
)
_CHANCE = (
    "how likely chance alone makes one of the tested labels stand out so far in a network without a backdoor."
)
_ROBUST = (
    "in robust standard deviations (1.4826 times the median distance): of the trigger's size, of its "
    "logarithm, or of the method's score"
)
_MASK = "the sum of the mask's opacities, in pixels: how much of the image the trigger changes."


def meanings(report: ScanReport | RepairReport) -> list[tuple[str, str]]:
    """Return what the words and numbers of a report's findings mean, as (word, meaning); none without any."""
    if not report.findings:
        return []
    unit = _ROBUST
    shown: Sequence[FlaggedLabel | Evidence] = report.findings
    if isinstance(report, ScanReport):
        unit = "as a share of the median size" if by_median(report) else _ROBUST
        shown = report.evidence
    rows = [
        ("Severity", _SEVERITY),
        ("Confidence", _CONFIDENCE),
        ("Anomaly index", f"how far the label lies from the usual ones, {unit}."),
    ]
    if any(entry.p_value is not None for entry in shown):
        rows.append(("p-value", _CHANCE))
    if any(entry.mask_l1 is not None for entry in shown):
        rows.append(("Mask size", _MASK))
    return rows
