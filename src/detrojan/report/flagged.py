"""Findings as the reports hold them, with the units of their sizes and what decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from detrojan.findings import Criterion, Finding
from detrojan.models.classifier import Classifier
from detrojan.report.schema import AimFacts, CriterionFacts, FlaggedLabel, UnitFacts


def flagged_labels(
    findings: Sequence[Finding], model: Classifier, trigger_files: Mapping[int, str]
) -> list[FlaggedLabel]:
    """Return findings as the reports hold them, in the order given."""
    return [
        FlaggedLabel(
            label=finding.label,
            class_name=model.class_name(finding.label),
            aim=AimFacts(**asdict(finding.aim)),
            anomaly_index=finding.anomaly_index,
            p_value=finding.p_value,
            size=finding.size,
            unit=finding.unit.name if finding.unit else None,
            attack_success=finding.attack_success,
            severity=finding.severity,
            confidence=finding.confidence,
            trigger=trigger_files.get(finding.label),
        )
        for finding in findings
    ]


def unit_facts(findings: Sequence[Finding]) -> list[UnitFacts]:
    """Return the units of the findings' sizes, each once."""
    units = {finding.unit.name: finding.unit for finding in findings if finding.unit is not None}
    return [UnitFacts.of(unit) for unit in units.values()]


def criterion_facts(criterion: Criterion) -> CriterionFacts:
    """Return what decided as a report holds it."""
    return CriterionFacts(**vars(criterion) | {"unit": UnitFacts.of(criterion.unit)})
