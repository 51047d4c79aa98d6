"""Reports as detrojan wrote them first, and what they are in the schema of today.

They say a size as `mask_l1`, always in pixels, and an aim as `source`. What decided is not in them: the
names of the hyper-parameters say it, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from detrojan.findings import PIXELS, ROBUST, SHARE_OF_MEDIAN, Level, VerdictText
from detrojan.judging.measures import Measures
from detrojan.records import Count, Label, Number, Part, Share, Size, Values, Words
from detrojan.report.schema import (
    AimFacts,
    AnyReport,
    CriterionFacts,
    EvaluateReport,
    Evidence,
    FlaggedLabel,
    RepairReport,
    Report,
    ScanReport,
    Step,
    UnitFacts,
)

#: what a scan called anomalous where its hyper-parameters did not say
THRESHOLD = 2.0
_PIXELS = UnitFacts.of(PIXELS)


class FirstFlagged(Part):
    """A flagged label; `source` is the only label whose images the trigger turns, or null."""

    label: Label
    class_name: Words
    anomaly_index: Number
    p_value: Share
    mask_l1: Size
    attack_success: Share
    severity: Level
    confidence: Level
    trigger: Words | None
    source: Label | None = None


class FirstEvidence(Part):
    """What was measured for one tested label."""

    label: Label
    anomaly_index: Number
    p_value: Share = None
    mask_l1: Size
    attack_success: Share
    flagged: bool


class FirstScan(Report):
    """A scan."""

    schema_: Literal["detrojan.scan/1"] = Field(alias="schema")
    verdict: VerdictText
    reason: Words
    targets: list[Label]
    findings: list[FirstFlagged]
    labels_tested: list[Label]
    evidence: list[FirstEvidence]
    passes: Count
    details: Values


class FirstRepair(Report):
    """A repair."""

    schema_: Literal["detrojan.repair/1"] = Field(alias="schema")
    before: Measures
    after: Measures
    steps: list[Step]
    verification: Values
    output: Words | None
    findings: list[FirstFlagged]


class FirstEvaluation(Report, Measures):
    """An evaluation: the same as today."""

    schema_: Literal["detrojan.evaluate/1"] = Field(alias="schema")
    reference: Words = ""
    trigger: Words = ""


FirstReport = FirstScan | FirstRepair | FirstEvaluation
FIRST: dict[str, type[FirstReport]] = {
    "detrojan.scan/1": FirstScan,
    "detrojan.repair/1": FirstRepair,
    "detrojan.evaluate/1": FirstEvaluation,
}


def as_current(report: FirstReport) -> AnyReport:
    """Return a report of the first version in the schema of today.

    Raises:
        ValueError: its parts contradict each other.

    """
    values = {name: getattr(report, name) for name in type(report).model_fields if name != "schema_"}
    if isinstance(report, FirstEvaluation):
        return EvaluateReport(**values)
    values["findings"] = _flagged(report.findings, report.model.classes)
    sized: list[FirstFlagged | FirstEvidence] = [*report.findings]
    if isinstance(report, FirstRepair):
        return RepairReport(**values, units=_units(sized))
    return ScanReport(
        **values | {"evidence": [_evidence(entry) for entry in report.evidence]},
        criterion=_criterion(report),
        units=_units([*sized, *report.evidence]),
    )


def _units(entries: Sequence[FirstFlagged | FirstEvidence]) -> list[UnitFacts]:
    return [_PIXELS] if any(entry.mask_l1 is not None for entry in entries) else []


def _sized(entry: FirstFlagged | FirstEvidence) -> dict[str, Any]:
    """Return the fields that have not changed, and the size with its unit."""
    values = dict(entry)
    size = values.pop("mask_l1")
    return values | {"size": size, "unit": None if size is None else PIXELS.name}


def _evidence(entry: FirstEvidence) -> Evidence:
    return Evidence(**_sized(entry))


def _flagged(entries: Sequence[FirstFlagged], classes: int) -> list[FlaggedLabel]:
    """Return the findings with their aims: those of an all-to-all backdoor had a source each."""
    offsets = {None if one.source is None else (one.label - one.source) % classes for one in entries}
    offset = offsets.pop() if len(entries) == classes > 1 and len(offsets) == 1 else None
    found = []
    for entry in entries:
        values = _sized(entry)
        source = values.pop("source")
        aim = AimFacts(target=entry.label, source=source, offset=0)
        if offset is not None:
            aim = AimFacts(target=None, source=None, offset=offset)
        found.append(FlaggedLabel(**values, aim=aim))
    return found


def _criterion(report: FirstScan) -> CriterionFacts:
    """Return what decided, as the names of the hyper-parameters tell."""
    settings = report.run.hyper_parameters
    significance, ratio = _share(settings, "significance"), _number(settings, "ratio")
    threshold: float | None = THRESHOLD if (said := _number(settings, "threshold")) is None else said
    by_median = settings.get("statistic") == "median"
    if "significance" in settings and "threshold" not in settings:
        threshold = None
    elif by_median and ratio is not None:
        threshold = 1.0 - ratio
    by_chance = significance is not None and (
        threshold is None
        or any(
            entry.p_value is not None and (entry.anomaly_index or 0.0) <= threshold
            for entry in report.findings
        )
    )
    sizes = any(entry.mask_l1 is not None for entry in report.evidence)
    return CriterionFacts(
        statistic="size of the recovered trigger" if sizes else "score of the method",
        direction="low" if sizes else "high",
        decides="p-value" if by_chance else "index",
        unit=UnitFacts.of(SHARE_OF_MEDIAN if by_median else ROBUST),
        threshold=threshold,
        significance=significance if by_chance or not by_median else None,
        ratio=ratio,
        confirm=_share(settings, "confirm"),
    )


def _number(settings: Mapping[str, Any], name: str) -> float | None:
    value = settings.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _share(settings: Mapping[str, Any], name: str) -> float | None:
    value = _number(settings, name)
    return value if value is not None and 0 <= value <= 1 else None
