"""The job of a scan: from a name and settings to a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from detrojan import catalog
from detrojan.errors import InputError, OptionError
from detrojan.findings import ScanResult
from detrojan.jobs.baselines import Known, accept
from detrojan.jobs.inputs import Inputs
from detrojan.jobs.settings import method_named
from detrojan.jobs.triggers import save_triggers
from detrojan.report.report import ScanReport, scan_report
from detrojan.run import Run
from detrojan.scans.base import Scan


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What a scan found, and its report.

    Attributes:
        result: the verdict and the findings.
        report: the same for people, with what it was made of.
        unsaved: why the triggers could not be written; None where they were.

    """

    result: ScanResult
    report: ScanReport
    unsaved: InputError | None = None

    @property
    def interrupted(self) -> bool:
        """Whether somebody stopped it: the report says what was known by then, and the state is kept."""
        return bool(self.result.details.get("interrupted"))

    def check_ended(self) -> None:
        """Raise what kept the scan from its end, once its report was shown.

        Raises:
            InputError: the triggers could not be written.
            KeyboardInterrupt: somebody stopped it; the state is kept, and --resume goes on from it.

        """
        if self.unsaved is not None:
            raise self.unsaved
        if self.interrupted:
            raise KeyboardInterrupt


def usual_scan(*, answers_only: bool) -> str:
    """Return the name of the scan that is made where the user names none."""
    return "peaks" if answers_only else "cascade"


def scan_named(
    name: str, settings: Sequence[str] = (), samples: int | None = None, budget: float | None = None
) -> Scan:
    """Return a scan; what the user asked for by an option of its own goes before its default.

    Raises:
        OptionError: no such scan or setting, or a time limit for a scan that knows none.

    """
    takes = {field.name for field in fields(catalog.find("scans", name))}
    if samples is not None:
        settings = (f"samples={samples}", *settings)
    if budget is not None:
        if "budget" not in takes:
            raise OptionError(
                f"expected no --budget: {name} always works to its end (cascade can stop before)"
            )
        settings = (f"budget={budget!r}", *settings)
    scan = method_named("scans", name, settings)
    assert isinstance(scan, Scan)
    return scan


def _in_time(scan: Scan, begun: float | None) -> Scan:
    """Return the scan with what is left of its budget: loading counts too."""
    budget = getattr(scan, "budget", 0.0)
    if begun is None or not budget:
        return scan
    timed: Any = scan
    shorter: Scan = replace(timed, budget=max(1e-3, budget - (time.monotonic() - begun)))  # 0 is no limit
    return shorter


def scan_model(
    inputs: Inputs,
    scan: Scan,
    *,
    run: Run,
    labels: list[int] | None,
    started: datetime,
    begun: float | None = None,
    folder: Path | None = None,
    json_file: Path | None = None,
    command: Sequence[str] | None = None,
    known: Known | None = None,
) -> Scanned:
    """Scan a model, save the triggers of flagged labels, and report.

    Args:
        inputs: the model and clean data.
        scan: the method.
        run: device, seed, progress, checkpoint.
        labels: to test as targets; None for all.
        started: when the job began.
        begun: the same by the monotonic clock, which a budget is counted from; None counts from now.
        folder: where the triggers go; None saves none.
        json_file: the file that will name the triggers, relative to itself.
        command: the words that asked for it, for the report.
        known: findings that are accepted.

    """
    result = _in_time(scan, begun).scan(inputs.model, inputs.data, run=run, labels=labels)
    files, unsaved = dict[int, str](), None
    try:
        files = save_triggers(result.flagged, folder, json_file)
    except InputError as error:  # a verdict is worth more than its triggers' files
        unsaved = error
    report = scan_report(
        replace(result, warnings=(*result.warnings, *inputs.warnings)),
        inputs.model,
        inputs.data,
        run=run,
        method=scan.acting(inputs.model),
        started=started,
        trigger_files=files,
        command=command,
    )
    accepted = report if known is None else accept(report, known)
    return Scanned(result=result, report=accepted, unsaved=unsaved)
