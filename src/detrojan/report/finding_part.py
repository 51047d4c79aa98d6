"""What the pages show of a flagged label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detrojan.findings import PIXELS
from detrojan.report.deciding import size_words
from detrojan.report.meanings import hints
from detrojan.report.pictures import TriggerPictures, picture_values
from detrojan.report.schema import FlaggedLabel, RepairReport, ScanReport
from detrojan.report.sentences import accepted_words, finding_sentence
from detrojan.words import label_name, number, percent, printable

#: of the findings' triggers, by label
Pictures = Mapping[int, TriggerPictures]


def finding_values(
    entry: FlaggedLabel, report: ScanReport | RepairReport, pictures: Pictures
) -> dict[str, Any]:
    """Return what the templates show of one flagged label; each fact with what its name means, or nothing."""
    facts = [
        ("Attack success", percent(entry.attack_success)),
        ("Anomaly index", number(entry.anomaly_index)),
    ]
    if entry.size is not None:
        facts.insert(1, ("Size", f"{size_words(entry, report)}{_part_of_image(entry, report)}"))
    if entry.p_value is not None:
        facts.append(("p-value", f"{entry.p_value:.2g}"))
    if entry.trigger:
        facts.append(("Trigger file", printable(entry.trigger)))
    if entry.accepted is not None:
        facts.append(("Accepted", accepted_words(entry)))
    told = hints(report, entry.unit)
    return {
        "name": label_name(entry.label, entry.class_name),
        "severity": entry.severity,
        "confidence": "" if _states_none(report) else entry.confidence,
        "sentence": finding_sentence(entry, report),
        "facts": [(name, value, told.get(name, "")) for name, value in facts],
        **picture_values(pictures.get(entry.label)),
    }


def _part_of_image(entry: FlaggedLabel, report: ScanReport | RepairReport) -> str:
    _, *size = report.model.input_shape
    area = size[0] * size[1] if len(size) == 2 else 0
    known = entry.size is not None and area and entry.unit == PIXELS.name
    return f" ({percent((entry.size or 0.0) / area)} of the image)" if known else ""


def _states_none(report: ScanReport | RepairReport) -> bool:
    """Return whether a report's findings are too doubtful for a word on how sure they are."""
    return isinstance(report, ScanReport) and report.verdict == "inconclusive"
