"""What the page of an evaluation shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detrojan.report.pictures import TriggerPictures, picture_values
from detrojan.report.schema import EvaluateReport
from detrojan.report.sentences import counted, name_of
from detrojan.words import label_name, percent, printable


def evaluate_values(report: EvaluateReport, pictures: Mapping[int, TriggerPictures]) -> dict[str, Any]:
    """Return what the template of an evaluation shows."""
    tiles = [
        (name, percent(share), note)
        for name, share, note in (
            ("Clean accuracy", report.clean_accuracy, "images answered with their label"),
            ("Agreement", report.agreement, "images answered as by the reference"),
            ("Attack success", report.attack_success, _won(report)),
            ("Stamped inputs caught", report.caught, "stamped images called backdoored"),
            ("False alarms", report.false_alarms, "clean images called backdoored"),
        )
        if share is not None
    ]
    drawn = next(iter(pictures.values()), None)
    return {
        "reason": "These are figures, not a verdict. Only a scan looks for backdoors.",
        "tiles": tiles,
        "trigger": None if drawn is None else _stamped(report) | picture_values(drawn),
        "per_target": [
            (
                label_name(entry.label, name_of(report.model, entry.label)),
                percent(entry.attack_success),
                "" if entry.images is None else f"{entry.images:,}",
            )
            for entry in report.per_target
        ],
        "counts": counted(report.counts) or f"{report.data.images:,} images.",
        "reference": _reference(report),
    }


def _reference(report: EvaluateReport) -> str:
    """Return what the model was compared with, or an empty text."""
    if not report.reference:
        return ""
    stands = "" if report.data.labelled else " Its answers stand in for the labels."
    return f"The reference is {printable(report.reference)}.{stands}"


def _won(report: EvaluateReport) -> str:
    """Return what counts as the attack's success."""
    if not report.per_target:
        return "stamped images answered wrongly"
    if len(report.per_target) > 1:
        return "stamped images answered with the target"
    label = report.per_target[0].label
    return f"stamped images answered {label_name(label, name_of(report.model, label))}"


def _stamped(report: EvaluateReport) -> dict[str, Any]:
    """Return the heading over the trigger's pictures, and where the trigger came from."""
    labels = [label_name(entry.label, name_of(report.model, entry.label)) for entry in report.per_target]
    towards = f" for label {', '.join(labels)}" if labels else ", with any wrong answer as its aim"
    source = f"Read from {printable(report.trigger)}." if report.trigger else ""
    return {"title": f"The trigger that was stamped{towards}", "sentence": source}
