"""The full scan of one model of a fleet: its report and page are written, and what a fleet keeps of it."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from detrojan.errors import DetrojanError, InterruptedRunError
from detrojan.files import save_text
from detrojan.findings import Level, VerdictText
from detrojan.jobs.fleet.looking import Problem, problem_of
from detrojan.jobs.inputs import Inputs, load_inputs
from detrojan.jobs.scanning import Scanned, scan_model, scan_named
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.report.html_page import render_html
from detrojan.report.pictures import pictures_of
from detrojan.report.records.fleet import highest
from detrojan.run import Run

REPORT, PAGE, TRIGGERS = "scan.json", "scan.html", "triggers"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model to scan; its text is its name.

    Attributes:
        name: what people call it.
        model: its file, and how it is fed.
        data: what it is judged on.
        method: the scan.
        settings: of the scan, as "name=value".
        budget: seconds for this model, or None.
        until: when the time of the whole fleet is up, in seconds of the system's clock, or None.
        folder: where its report, page and triggers go.
        state: where a scan that is stopped keeps its state.
        command: the words that do the same by themselves.

    """

    name: str
    model: ModelSource
    data: DataSource
    method: str
    settings: tuple[str, ...]
    budget: float | None
    until: float | None
    folder: Path
    state: Path
    command: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a fleet keeps of a scan; see `FleetModel`."""

    verdict: VerdictText
    reason: str
    severity: Level | None
    confidence: Level | None
    targets: list[int]
    seconds: float
    when: str


@dataclass(frozen=True)
class Late:
    """The time of the fleet was up; the model waits.

    Attributes:
        reason: one sentence.

    """

    reason: str


def judge(run: Run, item: Task) -> Verdict | Problem | Late:
    """Scan a model and write its report and page, if there is time left.

    Raises:
        InterruptedRunError: somebody stopped it; its state is kept.

    """
    left = None if item.until is None else item.until - time.time()
    if left is not None and left <= 0:
        return Late("the time of the fleet was up before its turn")
    scan = scan_named(item.method, item.settings, item.data.samples, item.budget)
    known = getattr(scan, "budget", None)
    short = left is not None and known is not None and not 0 < known <= left
    if short:
        scan = replace(scan, budget=left)  # type: ignore[call-arg]
    started, begun = datetime.now(UTC), time.monotonic()
    run = replace(run, checkpoint=item.state)
    item.state.mkdir(parents=True, exist_ok=True)
    try:
        inputs = load_inputs(item.model, item.data, run, limit=scan.samples, stand_ins=True, check="later")
        scanned = scan_model(
            inputs, scan, run=run, labels=None, started=started, begun=begun,
            folder=item.folder / TRIGGERS, json_file=item.folder / REPORT, command=item.command,
        )  # fmt: skip
    except InterruptedRunError:
        raise
    except DetrojanError as error:
        return problem_of(error, "unusable")
    if scanned.interrupted:
        raise InterruptedRunError(f"{item}: stopped")
    if (
        short
        and scanned.report.verdict == "inconclusive"
        and not scanned.result.details.get("complete", True)
    ):
        return Late("the time of the fleet was up while it was scanned")
    _write(item, inputs, scanned)
    shutil.rmtree(item.state, ignore_errors=True)
    return _verdict(scanned, started)


def _write(item: Task, inputs: Inputs, scanned: Scanned) -> None:
    pictures = pictures_of(scanned.result.flagged, inputs.data.images, model=inputs.model)
    save_text(item.folder / PAGE, render_html(scanned.report, pictures))
    save_text(item.folder / REPORT, scanned.report.to_json() + "\n")


def _verdict(scanned: Scanned, started: datetime) -> Verdict:
    report = scanned.report
    return Verdict(
        verdict=report.verdict,
        reason=report.reason,
        severity=highest(finding.severity for finding in report.findings),
        confidence=highest(finding.confidence for finding in report.findings),
        targets=list(report.targets),
        seconds=round(report.seconds, 2),
        when=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
