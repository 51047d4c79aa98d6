"""What the page of a scan shows."""

from __future__ import annotations

import statistics
from typing import Any

from detrojan.report.advice import TAXONOMY, advice
from detrojan.report.charts import NARROW, WIDE
from detrojan.report.deciding import (
    decides_by_chance,
    no_larger,
    significance,
    size_in,
    size_unit,
    threshold,
)
from detrojan.report.finding_part import Pictures, finding_values
from detrojan.report.label_chart import ROWS, anomaly_chart, size_chart
from detrojan.report.meanings import decisive_term, meanings
from detrojan.report.schema import ScanReport
from detrojan.report.sentences import baseline_sentence, name_of, reach
from detrojan.words import DASH, duration, label_name, number, percent, printable, sentence

#: rows of the table of labels; the JSON holds all of them
TABLE = 50


def scan_values(report: ScanReport, pictures: Pictures) -> dict[str, Any]:
    """Return what the template of a scan shows."""
    tested, unsaid = reach(report)
    by_chance, unit = decides_by_chance(report), size_unit(report)
    by_size = sizes_tell(report)
    measured = [entry.p_value if by_chance else entry.anomaly_index for entry in report.evidence]
    return {
        "mood": report.verdict.replace(" ", "-"),
        "reason": " ".join([sentence(printable(report.reason, 600)), baseline_sentence(report)]).strip(),
        "term": decisive_term(report),
        "advice": advice(report),
        "taxonomy": TAXONOMY,
        "tiles": _tiles(report),
        "findings": [finding_values(entry, report, pictures) for entry in report.findings],
        "sizes": [size_chart(report, width) for width in (WIDE, NARROW)] if by_size else [],
        "size_meaning": "" if unit is None else unit.meaning,
        "anomaly": [anomaly_chart(report, width) for width in (WIDE, NARROW)],
        "by_chance": by_chance,
        "rows": sum(value is not None for value in measured) <= ROWS,
        "has_chances": any(entry.p_value is not None for entry in report.evidence),
        "size_unit": "" if unit is None else unit.name,
        "tested_count": len(report.evidence),
        "table": _table(report),
        "meanings": meanings(report),
        "tested": tested,
        "unsaid": unsaid,
    }


def sizes_tell(report: ScanReport) -> bool:
    """Return whether the sizes of the triggers show what was decided: the flagged labels have small ones."""
    unit = size_unit(report)
    sizes = {e.label: size for e in report.evidence if (size := size_in(e, unit)) is not None}
    if len(sizes) < 2:
        return False
    middle = statistics.median(sizes.values())
    return all(sizes.get(finding.label, middle) < middle for finding in report.findings)


def _tiles(report: ScanReport) -> list[tuple[str, str, str]]:
    return [
        ("Labels tested", f"{len(report.labels_tested):,}", f"of {report.model.classes:,} classes"),
        ("Labels flagged", str(len(report.findings)), _nearest(report)),
        ("Images used", *_images(report)),
        ("Time", duration(report.seconds), f"{report.passes:,} passes"),
    ]


def _table(report: ScanReport) -> list[dict[str, Any]]:
    """Return the most suspicious labels, the flagged ones first."""
    by_chance, unit = decides_by_chance(report), size_unit(report)
    ordered = sorted(
        report.evidence,
        key=lambda e: (
            not e.flagged,
            1.0 if e.p_value is None or not by_chance else e.p_value,
            -(e.anomaly_index or 0),
        ),
    )
    return [
        {
            "name": label_name(entry.label, name_of(report.model, entry.label)),
            "index": number(entry.anomaly_index),
            "chance": DASH if entry.p_value is None else f"{entry.p_value:.2g}",
            "size": number(size_in(entry, unit), 1),
            "success": percent(entry.attack_success),
            "flagged": entry.flagged,
        }
        for entry in ordered[:TABLE]
    ]


def _images(report: ScanReport) -> tuple[str, str]:
    """Return how many images the scan used, and a note on them."""
    given = report.data.images
    used = given if report.data.used is None else report.data.used
    labelled = "labelled" if report.data.labelled else "without labels"
    return f"{used:,}", labelled if used >= given else f"of {given:,}, {labelled}"


def _nearest(report: ScanReport) -> str:
    """Return how far out the most suspicious label lies, and from where on labels are flagged."""
    if decides_by_chance(report):
        least = min(entry.p_value for entry in report.evidence if entry.p_value is not None)
        limit = significance(report)
        return f"lowest p-value {least:.2g}" + ("" if limit is None else f", flagged below {limit:g}")
    if all(entry.anomaly_index is None for entry in report.evidence):
        return ""
    highest = number(max((entry.anomaly_index or 0 for entry in no_larger(report)), default=None), 1)
    limit = threshold(report)
    return f"highest index {highest}" + ("" if limit is None else f", threshold {limit:g}")
