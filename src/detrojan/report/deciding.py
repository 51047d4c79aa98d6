"""What decided in a scan, for those who draw and tell it; and the sizes that can be compared."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from detrojan.findings import ROBUST
from detrojan.report.schema import Evidence, FlaggedLabel, RepairReport, ScanReport, UnitFacts
from detrojan.words import number

_ROBUST = UnitFacts.of(ROBUST)


def threshold(report: ScanReport) -> float | None:
    """Return the anomaly index above which this scan flags a label, where that counts."""
    return None if report.criterion is None else report.criterion.threshold


def significance(report: ScanReport) -> float | None:
    """Return the p-value below which this scan flags a label, where that counts."""
    return None if report.criterion is None else report.criterion.significance


def decides_by_chance(report: ScanReport) -> bool:
    """Return whether the p-value decides, and is known: then it is shown instead of the index."""
    known = any(entry.p_value is not None for entry in report.evidence)
    return known and report.criterion is not None and report.criterion.decides == "p-value"


def index_unit(report: ScanReport | RepairReport) -> UnitFacts:
    """Return the unit of the anomaly index."""
    decided = report.criterion if isinstance(report, ScanReport) else None
    return _ROBUST if decided is None else decided.unit


def size_unit(report: ScanReport | RepairReport) -> UnitFacts | None:
    """Return the unit that most sizes have: only they can be compared. None where there are no sizes."""
    entries: Sequence[FlaggedLabel | Evidence] = report.findings
    if isinstance(report, ScanReport):
        entries = report.evidence
    counts = Counter(entry.unit for entry in entries if entry.size is not None)
    most = counts.most_common(1)
    return next(unit for unit in report.units if unit.name == most[0][0]) if most else None


def size_in(entry: FlaggedLabel | Evidence, unit: UnitFacts | None) -> float | None:
    """Return a size that has this unit, else None."""
    return entry.size if unit is not None and entry.unit == unit.name else None


def no_larger(report: ScanReport) -> list[Evidence]:
    """Return the tested labels that could be suspect: measured, and no larger a trigger than the median.

    A trigger far larger than the others has a high anomaly index too, but is no sign of a backdoor.
    """
    unit = size_unit(report)
    sizes = [size for entry in report.evidence if (size := size_in(entry, unit)) is not None]
    middle = statistics.median(sizes) if sizes else math.inf
    return [
        entry
        for entry in report.evidence
        if entry.anomaly_index is not None and (size_in(entry, unit) or 0.0) <= middle
    ]


def size_words(entry: FlaggedLabel, report: ScanReport | RepairReport) -> str:
    """Return a finding's size with its unit, e.g. "14.0 pixels"; an empty text where it is not known."""
    unit = next((unit for unit in report.units if unit.name == entry.unit), None)
    if unit is None or entry.size is None:
        return ""
    return f"{number(entry.size, 1)} {unit.one if entry.size == 1 else unit.many}"
