"""What the page of a repair shows, and any page that shows steps."""

from __future__ import annotations

from typing import Any

from detrojan.report.advice import TAXONOMY, advice
from detrojan.report.charts import NARROW, WIDE, curve_chart, curve_groups
from detrojan.report.finding_part import Pictures, finding_values
from detrojan.report.meanings import meanings
from detrojan.report.schema import RepairReport, Step
from detrojan.report.sentences import (
    counted,
    failure_sentence,
    is_doubtful,
    is_failed,
    measure_rows,
    measured_sentence,
    stopped_at,
    verification_rows,
    verification_sentence,
)
from detrojan.words import fact_rows, file_name, printable, sentence


def repair_values(report: RepairReport, pictures: Pictures) -> dict[str, Any]:
    """Return what the template of a repair shows."""
    verdict = report.verification.get("verdict")
    return {
        "mood": "backdoored" if is_failed(report) else "inconclusive" if is_doubtful(report) else "good",
        "reason": " ".join(filter(None, [failure_sentence(report), _written(report)])),
        "advice": advice(report),
        "taxonomy": TAXONOMY,
        "measured": measure_rows(report.before, report.after, report.model),
        "counts": " ".join(filter(None, [measured_sentence(report), counted(report.after.counts)])),
        "steps": [step_values(step) for step in report.steps],
        "checked": verification_sentence(report),
        "checked_mood": str(verdict).replace(" ", "-"),
        # what could not be verified says why by itself
        "checked_reason": ""
        if verdict == "inconclusive"
        else sentence(printable(str(report.verification.get("reason") or ""), 600)),
        "verification": verification_rows(report),
        "findings": [finding_values(entry, report, pictures) for entry in report.findings],
        "meanings": meanings(report),
    }


def _written(report: RepairReport) -> str:
    return f"Written to {printable(file_name(report.output))}." if report.output else ""


def step_values(step: Step) -> dict[str, Any]:
    """Return what the templates show of one step; settings, which are many, stand apart from its figures."""
    chosen = stopped_at(step)
    settings = {name: value for name, value in step.details.items() if isinstance(value, dict)}
    facts = {name: value for name, value in step.details.items() if name not in {"chosen", *settings}}
    return {
        "method": printable(step.method),
        "summary": sentence(printable(step.summary, 600)),
        "charts": [
            {
                "names": [printable(name, 40) for name in names],
                "pair": [curve_chart(step.curves, names, width, chosen=chosen) for width in (WIDE, NARROW)],
            }
            for names in curve_groups(step.curves)
        ],
        "facts": fact_rows(facts),
        "settings": [row for value in settings.values() for row in fact_rows(value)],
    }
