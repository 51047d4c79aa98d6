"""What the words and the numbers of a finding mean, for the reader of a page."""

from __future__ import annotations

from collections.abc import Sequence

from detrojan.report.deciding import decides_by_chance, index_unit
from detrojan.report.schema import Evidence, FlaggedLabel, RepairReport, ScanReport

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
_SUCCESS = "the share of held-out images that the trigger turns into the target."


def meanings(report: ScanReport | RepairReport) -> list[tuple[str, str]]:
    """Return what the words and numbers of a report's findings mean, as (word, meaning); none without any."""
    if not report.findings:
        return []
    shown: Sequence[FlaggedLabel | Evidence] = (
        report.evidence if isinstance(report, ScanReport) else report.findings
    )
    rows = [("Severity", _SEVERITY), ("Confidence", _CONFIDENCE), ("Anomaly index", _index(report))]
    if any(entry.p_value is not None for entry in shown):
        rows.append(("p-value", _CHANCE))
    used = {entry.unit for entry in shown if entry.size is not None}
    several = len(used) > 1
    return rows + [
        (f"Size in {unit.name}" if several else "Size", f"{unit.meaning}.")
        for unit in report.units
        if unit.name in used
    ]


def hints(report: ScanReport | RepairReport, unit: str | None) -> dict[str, str]:
    """Return what the numbers of one finding mean, by name; `unit` is that of its size."""
    size = next((f"{entry.meaning}." for entry in report.units if entry.name == unit), "")
    return {"Attack success": _SUCCESS, "Anomaly index": _index(report), "p-value": _CHANCE, "Size": size}


def decisive_term(report: ScanReport) -> tuple[str, str] | None:
    """Return the number that decides in a scan, and what it means; None where nothing was compared."""
    if decides_by_chance(report):
        return "p-value", _CHANCE
    if any(entry.anomaly_index is not None for entry in report.evidence):
        return "Anomaly index", _index(report)
    return None


def _index(report: ScanReport | RepairReport) -> str:
    return f"how far the label lies from the usual ones, {index_unit(report).meaning}."
