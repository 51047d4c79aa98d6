"""Makes the versioned reports out of what the rooms return."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import torch

from detrojan.data.dataset import Dataset
from detrojan.findings import Finding, RepairStep, ScanResult
from detrojan.judging.measures import Measures, TargetSuccess
from detrojan.judging.outcome import doubts
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.report.advice import advised
from detrojan.report.flagged import criterion_facts, flagged_labels, unit_facts
from detrojan.report.reading import load_report
from detrojan.report.schema import (
    AnyReport,
    DataFacts,
    EvaluateReport,
    Evidence,
    ModelFacts,
    PreprocessingFacts,
    RepairReport,
    Report,
    RunFacts,
    ScanReport,
    Step,
)
from detrojan.run import Run

__all__ = [
    "AnyReport",
    "EvaluateReport",
    "Measures",
    "RepairReport",
    "Report",
    "ScanReport",
    "evaluate_report",
    "load_report",
    "measures",
    "repair_report",
    "scan_report",
]


def scan_report(
    result: ScanResult,
    model: Classifier,
    data: Dataset,
    *,
    run: Run,
    method: Method,
    started: datetime,
    seconds: float | None = None,
    trigger_files: Mapping[int, str] | None = None,
    command: Sequence[str] | None = None,
) -> ScanReport:
    """Return the report of a scan.

    Args:
        result: what the scan returned.
        model: the judged model.
        data: the images it was judged on.
        run: the surroundings the scan ran in.
        method: the scan with its hyper-parameters.
        started: when it began; any time zone.
        seconds: wall time, where it is more than the scan's own.
        trigger_files: the file of the saved trigger, by flagged label.
        command: the command line, or None in library use.

    """
    report = ScanReport(
        verdict=result.verdict,
        reason=result.reason,
        targets=result.targets,
        criterion=None if result.criterion is None else criterion_facts(result.criterion),
        findings=flagged_labels(result.flagged, model, trigger_files or {}),
        labels_tested=[finding.label for finding in result.findings],
        evidence=[
            Evidence(
                label=finding.label,
                anomaly_index=finding.anomaly_index,
                p_value=finding.p_value,
                size=finding.size,
                unit=finding.unit.name if finding.unit else None,
                attack_success=finding.attack_success,
                flagged=finding.flagged,
            )
            for finding in result.findings
        ],
        units=unit_facts(result.findings),
        passes=result.passes,
        details=result.details,
        model=model_facts(model),
        data=data_facts(data, used=result.images),
        run=run_facts(run, [method], started, command, hyper_parameters=method.hyper_parameters()),
        seconds=result.seconds if seconds is None else seconds,
        warnings=list(result.warnings),
    )
    return advised(report)


def repair_report(
    steps: Sequence[RepairStep],
    model: Classifier,
    data: Dataset,
    findings: Sequence[Finding],
    *,
    before: Measures,
    after: Measures,
    run: Run,
    methods: Sequence[Method],
    seconds: float,
    started: datetime,
    output: str | None = None,
    output_sha256: str | None = None,
    verification: Mapping[str, Any] | None = None,
    trigger_files: Mapping[int, str] | None = None,
    warnings: Sequence[str] = (),
    command: Sequence[str] | None = None,
) -> RepairReport:
    """Return the report of a repair.

    Args:
        steps: what was done, in order.
        model: the delivered model, before the repair.
        data: the images the repair worked with.
        findings: the findings it was made from.
        before: how the delivered model answers (see `measures`).
        after: how the repaired model answers, on the same images.
        run: the surroundings the repair ran in.
        methods: the repairs in their order; their hyper-parameters are recorded by name.
        seconds: wall time.
        started: when it began; any time zone.
        output: the file of the repaired model, or None.
        output_sha256: its digest, or None.
        verification: what a re-scan of the repaired model said: "verdict" and whatever else.
        trigger_files: the file of the recovered trigger, by label.
        warnings: what the reader must know beside what the measures say by themselves.
        command: the command line, or None in library use.

    """
    report = RepairReport(
        before=before,
        after=after,
        steps=[_step(step) for step in steps],
        verification=dict(verification or {}),
        output=output,
        output_sha256=output_sha256,
        findings=flagged_labels(findings, model, trigger_files or {}),
        units=unit_facts(findings),
        model=model_facts(model),
        data=data_facts(data),
        run=run_facts(run, methods, started, command, hyper_parameters=_by_name(methods)),
        seconds=seconds,
        warnings=[*warnings, *doubts(before, after)],
    )
    return advised(report)


def _step(step: RepairStep) -> Step:
    return Step(
        method=step.method,
        summary=step.summary,
        curves={name: [*values] for name, values in step.curves.items()},
        details=step.details,
    )


def evaluate_report(
    measured: Measures,
    model: Classifier,
    data: Dataset,
    *,
    run: Run,
    seconds: float,
    started: datetime,
    warnings: Sequence[str] = (),
    command: Sequence[str] | None = None,
    reference: str = "",
    trigger: str = "",
) -> EvaluateReport:
    """Return the report of an evaluation; see `measures` for what was measured.

    Args:
        measured: what was measured.
        model: the measured model.
        data: the images it was measured on.
        run: the surroundings.
        seconds: wall time.
        started: when it began; any time zone.
        warnings: what the reader must know.
        command: the command line, or None in library use.
        reference: the file of the model that it was compared with, or empty.
        trigger: the file of what was stamped, or empty.

    """
    return EvaluateReport(
        **dict(measured),
        reference=reference,
        trigger=trigger,
        model=model_facts(model),
        data=data_facts(data),
        run=run_facts(run, [], started, command, hyper_parameters={}),
        seconds=seconds,
        warnings=list(warnings),
    )


def measures(
    *,
    clean_accuracy: float | None = None,
    agreement: float | None = None,
    attack_success: Mapping[int, float] | None = None,
    stamped: Mapping[int, int] | None = None,
    counts: Mapping[str, int] | None = None,
) -> Measures:
    """Return what was measured of one model.

    Args:
        clean_accuracy: share of images answered with their label, or None.
        agreement: share of images answered as the delivered model does, or None.
        attack_success: by target label, the share of stamped images answered with it.
        stamped: by target label, how many images were stamped.
        counts: how many samples the numbers rest on, e.g. {"images": 900, "stamped": 810}.

    """
    success = dict(attack_success or {})
    return Measures(
        clean_accuracy=clean_accuracy,
        agreement=agreement,
        attack_success=sum(success.values()) / len(success) if success else None,
        per_target=[
            TargetSuccess(label=label, attack_success=share, images=(stamped or {}).get(label))
            for label, share in sorted(success.items())
        ],
        counts=dict(counts or {}),
    )


def model_facts(model: Classifier) -> ModelFacts:
    """Return what a report says about a model."""
    pre = model.preprocessing
    return ModelFacts(
        path=model.origin.path,
        sha256=model.origin.sha256,
        format=model.origin.format,
        net=model.origin.net,
        input_shape=list(model.input_shape),
        classes=model.num_classes,
        class_names=list(model.class_names),
        parameters=model.parameters,
        preprocessing=PreprocessingFacts(
            **vars(pre) | {"mean": list(pre.mean), "std": list(pre.std), "framing": str(pre.framing or "")}
        ),
    )


def data_facts(data: Dataset, *, used: int | None = None) -> DataFacts:
    """Return what a report says about data, of which at most `used` images were drawn (None: all)."""
    return DataFacts(
        source=data.source,
        sha256=data.sha256,
        images=len(data),
        used=None if used is None else min(used, len(data)),
        labelled=data.labels is not None,
        shape=list(data.shape),
        notes=list(data.notes),
        skipped=list(data.skipped),
    )


def run_facts(
    run: Run,
    methods: Sequence[Method],
    started: datetime,
    command: Sequence[str] | None,
    *,
    hyper_parameters: Mapping[str, Any],
) -> RunFacts:
    """Return what is needed to run the same again."""
    return RunFacts(
        seed=run.seed,
        versions={
            "detrojan": own_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        device=str(run.device),
        threads=torch.get_num_threads(),
        method=",".join(method.name for method in methods),
        summary=" ".join(method.summary() for method in methods),
        reference="; ".join(text for method in methods if (text := method.reference())),
        hyper_parameters=dict(hyper_parameters),
        started=started.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        command=None if command is None else list(command),
    )


def _by_name(methods: Sequence[Method]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for method in methods:
        again = sum(name.partition(" ")[0] == method.name for name in values)
        values[method.name if not again else f"{method.name} {again + 1}"] = method.hyper_parameters()
    return values


def own_version() -> str:
    """Return the version of detrojan."""
    try:
        return metadata.version("detrojan")
    except metadata.PackageNotFoundError:
        return "unknown"
