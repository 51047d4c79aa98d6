"""The job of a verification: is this the file that a report is about, and can its result be repeated?"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from detrojan.errors import DataError, InputError
from detrojan.files import read_bounded
from detrojan.jobs.inputs import Inputs, load_inputs
from detrojan.jobs.scanning import scan_model, scan_named, usual_scan
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.models.loading import format_of, model_sha256
from detrojan.report.problems import judged
from detrojan.report.reading import LARGEST, load_report
from detrojan.report.records.verify import Compared, Figure, Repeated, VerifyRecord
from detrojan.report.report import run_facts
from detrojan.report.schema import AnyReport, Evidence, RepairReport, ScanReport
from detrojan.run import Run

#: figures of a label that a new scan is compared by
_FIGURES = ("anomaly_index", "p_value", "size", "attack_success")
#: figures that differ by a smaller share are the same
_CLOSE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a scan was asked for, as the report's command says.

    Attributes:
        model: which model, and how it is fed.
        data: which data, and how they are read.
        method: the scan's name; None for the usual one.
        settings: its hyper-parameters, each NAME=VALUE.
        labels: to test as targets; None for all.
        budget: seconds, or None.

    """

    model: ModelSource
    data: DataSource
    method: str | None
    settings: tuple[str, ...] = ()
    labels: list[int] | None = None
    budget: float | None = None


def read_report(path: Path) -> tuple[AnyReport, str]:
    """Return a report and the SHA-256 of its file.

    Raises:
        DataError: it cannot be read, or is no report.

    """
    report = load_report(path)
    return report, hashlib.sha256(read_bounded(path, LARGEST, DataError)).hexdigest()


def check_repeatable(asked: Asked) -> None:
    """Refuse to repeat a scan that needs more trust than a report deserves.

    Raises:
        InputError: the scan ran code, or asked a server.

    """
    wrong = [
        name
        for name, value in (
            ("--factory", asked.model.factory),
            ("--allow-unsafe", asked.model.allow_unsafe),
            ("--url", asked.model.url),
        )
        if value
    ]
    if wrong:
        raise InputError(
            f"expected a scan that runs no code and asks no server, got one with {', '.join(wrong)}: "
            "a report may be anybody's. Repeat it by its own command"
        )


def verify(
    path: Path, model: Path, *, asked: Asked | None, again: bool, with_data: bool, run: Run
) -> VerifyRecord:
    """Return whether a model is the one that a report is about, and what a new scan says.

    Args:
        path: the report's JSON.
        model: the file or folder to compare.
        asked: what the scan was asked for; None where the report does not say.
        again: whether the scan is repeated.
        with_data: whether the data are read and compared too; a repeated scan reads them anyway.
        run: device, progress; its seed is the report's.

    Raises:
        DataError: no report, or one of another kind than asked for.
        ModelError: no model.
        InputError: a scan that cannot be repeated.

    """
    report, digest = read_report(path)
    now = model_sha256(model, format_of(model))
    inputs, repeated = None, None
    if again or with_data:
        if asked is None or not isinstance(report, ScanReport):
            raise InputError(
                f"{path}: expected a report that names the scan's command, to repeat it or to read its data; "
                "got one of " + ("Python" if isinstance(report, ScanReport) else report.schema_)
            )
        check_repeatable(asked)
        inputs, repeated = _repeat(report, asked, run, scan=again)
    data_now = None if inputs is None else inputs.data.sha256
    due = _subject(report)
    same = now == due
    data_same = None if data_now is None else data_now == report.data.sha256
    said = judged(report) if isinstance(report, ScanReport | RepairReport) else None
    return VerifyRecord(
        report=str(path),
        report_sha256=digest,
        kind=report.schema_.removeprefix("detrojan.").partition("/")[0],
        verdict="measured" if said is None else said.verdict,
        targets=report.targets if isinstance(report, ScanReport) else [],
        started=report.run.started,
        version=report.run.versions.get("detrojan", "unknown"),
        method=report.run.method or "no method",
        seed=report.run.seed,
        same=same and data_same is not False and (repeated is None or repeated.same_verdict),
        delivered=not same and now == report.model.sha256,
        model=Compared(path=str(model), reported=due, now=now, same=same),
        data=Compared(path=report.data.source, reported=report.data.sha256, now=data_now, same=data_same),
        repeatable=asked is not None and isinstance(report, ScanReport) and not _needs_trust(asked),
        differences=differences(report, run, asked),
        again=repeated,
    )


def _subject(report: AnyReport) -> str:
    """Return the digest of the file that a report is about: of a repair, the repaired one."""
    if isinstance(report, RepairReport):
        return report.output_sha256 or report.model.sha256
    return report.model.sha256


def _needs_trust(asked: Asked) -> bool:
    return bool(asked.model.factory or asked.model.allow_unsafe or asked.model.url)


def differences(report: AnyReport, run: Run, asked: Asked | None) -> list[str]:
    """Return what stands in the way of the same figures here, each as a sentence without a stop.

    Args:
        report: what was said.
        run: the surroundings of a repetition.
        asked: what the scan was asked for, or None.

    """
    here = run_facts(run, [], datetime.now(UTC), None, hyper_parameters={})
    found = [
        f"{name} {then} then, {here.versions.get(name, 'unknown')} now"
        for name, then in report.run.versions.items()
        if here.versions.get(name) != then
    ]
    if report.run.device != here.device:
        found.append(f"device {report.run.device} then, {here.device} now")
    if report.run.threads != here.threads:
        found.append(f"{report.run.threads} computing threads then, {here.threads} now")
    if isinstance(report, RepairReport) and report.output and not report.output_sha256:
        found.append("the report does not hold the digest of the repaired file: it is older than that")
    if isinstance(report, ScanReport):
        if asked is None:
            found.append("the report does not name the command of its scan")
        elif asked.budget is not None:
            found.append(f"a limit of {asked.budget:g} seconds: how far a scan gets depends on the machine")
        if report.details.get("interrupted"):
            found.append("somebody stopped the scan before its end")
    return found


def _repeat(report: ScanReport, asked: Asked, run: Run, *, scan: bool) -> tuple[Inputs, Repeated | None]:
    """Read model and data as the scan did, and scan again if asked for."""
    method = asked.method or usual_scan(answers_only=False)
    how = scan_named(method, asked.settings, asked.data.samples, asked.budget)
    inputs = load_inputs(asked.model, asked.data, run, limit=how.samples, stand_ins=True, check="later")
    if not scan:
        return inputs, None
    scanned = scan_model(inputs, how, run=run, labels=asked.labels, started=datetime.now(UTC))
    if scanned.interrupted:
        raise KeyboardInterrupt
    again = scanned.report
    figures = list(_differing(report.evidence, again.evidence))
    return inputs, Repeated(
        verdict=again.verdict,
        targets=again.targets,
        same_verdict=(again.verdict, again.targets) == (report.verdict, report.targets),
        compared=len(_FIGURES) * len(again.evidence),
        figures=figures,
    )


def _differing(then: Sequence[Evidence], now: Sequence[Evidence]) -> list[Figure]:
    """Return the figures that are not the same, label after label."""
    before = {entry.label: entry for entry in then}
    found = []
    for entry in now:
        old = before.get(entry.label)
        for name in _FIGURES:
            was = None if old is None else getattr(old, name)
            value = getattr(entry, name)
            if not _same(was, value):
                found.append(Figure(label=entry.label, name=name, reported=was, now=value))
    return found


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)
