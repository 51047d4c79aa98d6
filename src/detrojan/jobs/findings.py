"""Reads what a repair is made from: a scan's JSON with its triggers, or triggers that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from detrojan.errors import DataError, LabelError, OptionError
from detrojan.findings import Finding, Unit
from detrojan.jobs.triggers import load_trigger
from detrojan.models.classifier import Classifier
from detrojan.report.reading import load_report
from detrojan.report.schema import FlaggedLabel, ScanReport, UnitFacts
from detrojan.triggers.aim import Aim


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a repair is made from.

    Attributes:
        findings: flagged labels, each with its trigger; none where there is nothing to repair, or `blind`.
        files: the file of each trigger, by label, where it lies in one already.
        warnings: what the reader must know.
        report: the scan's report that they were read from, or None.
        blind: whether the model is repaired though nothing was looked for.
        interrupted: whether somebody stopped the scan that they come from.

    """

    findings: tuple[Finding, ...]
    files: dict[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    report: ScanReport | None = None
    blind: bool = False
    interrupted: bool = False


def known_findings(texts: Sequence[str], model: Classifier) -> Given:
    """Return findings made of triggers that are known, each written FILE:LABEL.

    Raises:
        OptionError: not written so, or a label twice.
        DataError: no trigger, or one that does not fit the model.
        LabelError: a label beyond the model's classes.

    """
    findings: dict[int, Finding] = {}
    for text in texts:
        path, _, target = text.rpartition(":")
        if not path or not target.isdecimal() or int(target) in findings:
            raise OptionError(f"expected --trigger FILE:LABEL, each label once, got {text!r}")
        label = int(target)
        if label >= model.num_classes:
            raise LabelError(f"expected labels of 0 to {model.num_classes - 1}, got {label}")
        findings[label] = Finding(
            label=label,
            flagged=True,
            trigger=load_trigger(Path(path), model.input_shape),
        )
    return Given(findings=tuple(findings.values()))


def read_findings(path: Path, model: Classifier, labels: list[int] | None) -> Given:
    """Return the findings of a scan's JSON with their triggers.

    Args:
        path: the JSON; the triggers' files are looked for from its folder.
        model: the model to repair.
        labels: which of the flagged labels; None for all.

    Raises:
        DataError: no scan's JSON, no trigger saved, or one that does not fit the model.
        LabelError: a label that was not flagged, or is beyond the model's classes.

    """
    report = load_report(path)
    if not isinstance(report, ScanReport):
        raise DataError(f"{path}: expected a scan's JSON, got {report.schema_}")
    _check_labels(path, report, model, labels)
    chosen = [entry for entry in report.findings if not labels or entry.label in labels]
    other = report.model.sha256 != model.origin.sha256
    said = f"{path} was made from another model file (SHA-256 {report.model.sha256[:12]}...)"
    return Given(
        findings=tuple(_finding(path, entry, report.units, model) for entry in chosen),
        files={entry.label: entry.trigger for entry in chosen if entry.trigger is not None},
        warnings=(said,) if other else (),
        report=report,
    )


def _check_labels(path: Path, report: ScanReport, model: Classifier, labels: list[int] | None) -> None:
    """Refuse labels that were not flagged, and flagged ones beyond the model's classes."""
    wrong = [label for label in labels or [] if label not in report.targets]
    if wrong or (not report.targets and report.verdict == "backdoored"):
        raise LabelError(f"{path}: expected flagged labels out of {report.targets}, got {wrong or 'none'}")
    if max(report.targets, default=0) >= model.num_classes:
        raise LabelError(
            f"{path}: expected labels of 0 to {model.num_classes - 1} as the model's classes, "
            f"got {max(report.targets)}"
        )


def trigger_within(report: Path, named: str) -> Path:
    """Return the trigger's file that a report names; it lies in the report's folder or below it.

    Raises:
        DataError: it names another place.

    """
    parts = PurePosixPath(named)
    if parts.is_absolute() or ".." in parts.parts or "\\" in named:
        raise DataError(
            f"{report}: expected a trigger's file in the report's folder or below it, got {named!r:.120}; "
            "--trigger FILE:LABEL names another one"
        )
    return report.parent / named


def _finding(path: Path, entry: FlaggedLabel, units: Sequence[UnitFacts], model: Classifier) -> Finding:
    """Return one finding of the report at `path`, with its trigger."""
    if entry.trigger is None:
        raise DataError(
            f"{path}: no trigger was saved for label {entry.label}; scan again with --json or --triggers"
        )
    try:
        aim = Aim(**dict(entry.aim))
        aim.check(model.num_classes)
    except (OptionError, TypeError) as error:
        raise DataError(f"{path}: label {entry.label}: {error}") from error
    if abs(aim.offset) >= 1 << 31:
        raise DataError(f"{path}: label {entry.label}: expected an offset of 31 bits, got {aim.offset}")
    return Finding(
        label=entry.label,
        aim=aim,
        anomaly_index=entry.anomaly_index,
        size=entry.size,
        unit=next((Unit(**dict(unit)) for unit in units if unit.name == entry.unit), None),
        attack_success=entry.attack_success,
        flagged=True,
        p_value=entry.p_value,
        severity=entry.severity,
        confidence=entry.confidence,
        trigger=load_trigger(trigger_within(path, entry.trigger), model.input_shape),
    )
