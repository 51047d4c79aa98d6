"""The job of a repair: from findings to a repaired model in a file, judged and scanned again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from detrojan import catalog
from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError, OptionError
from detrojan.findings import ScanResult
from detrojan.jobs.findings import Given, known_findings, read_findings
from detrojan.jobs.inputs import Inputs
from detrojan.jobs.repairing import (
    Judge,
    Outcome,
    repair_in_sequence,
    repair_outcome,
    verification_facts,
    verify,
    with_usable_labels,
)
from detrojan.jobs.triggers import save_triggers, triggers_folder
from detrojan.judging.outcome import UNMEASURED, shortcomings
from detrojan.judging.preparing import FEWEST_IMAGES
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.models.loading import format_of, model_sha256
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.models.writing import check_place, save_model
from detrojan.repairs.base import Repair, Repaired
from detrojan.report.report import Measures, RepairReport, ScanReport, repair_report, scan_report
from detrojan.run import Run
from detrojan.scans.base import Scan


@dataclass(frozen=True, kw_only=True)
class Mended:
    """A repaired copy, measured on images that the repair has not seen."""

    repaired: Repaired
    data: Dataset
    rest: Dataset
    before: Measures
    after: Measures
    warnings: tuple[str, ...]

    @property
    def model(self) -> Classifier:
        """The repaired copy."""
        return self.repaired.model


@dataclass(frozen=True, kw_only=True)
class Job:
    """One repair under way, and what its reports need.

    Attributes:
        inputs: the model and clean data.
        run: device, seed, progress, checkpoint.
        scan: how the model is judged, before and after.
        methods: the repairs, in their order.
        started: when the job began.
        begun: the same, by the monotonic clock.
        command: the words that asked for it.

    """

    inputs: Inputs
    run: Run
    scan: Scan
    methods: Sequence[Repair]
    started: datetime
    begun: float
    command: Sequence[str] | None = None

    def scan_first(self, labels: list[int] | None) -> Given:
        """Scan the delivered model; where somebody stops the scan, its report says what is known by then."""
        data, wanted = self.inputs.data, self.scan.samples
        if wanted < len(data):  # the images that `detrojan scan` would draw
            data = data.sample(wanted, self.run.generator("data"))
        result = self.scan.scan(self.inputs.model, data, run=self.run, labels=labels)
        return Given(
            findings=result.flagged,
            warnings=result.warnings,
            report=self.scan_report(result),
            interrupted=bool(result.details.get("interrupted")),
        )

    def scan_report(self, result: ScanResult) -> ScanReport:
        """Return the report of the first scan."""
        return scan_report(
            replace(result, warnings=(*self.inputs.warnings, *result.warnings)),
            self.inputs.model,
            self.inputs.data,
            run=self.run,
            method=self.scan.acting(self.inputs.model),
            seconds=time.monotonic() - self.begun,
            started=self.started,
            command=self.command,
        )

    def mend(self, given: Given, share: float) -> Mended:
        """Repair on one part of the data, and measure on the other."""
        model, run = self.inputs.model, self.run
        data, warnings = with_usable_labels(model, self.inputs.data)
        used, rest = data.split(round(share * len(data)), run.generator("repair", "split"))
        judge = Judge.of(model, rest, given.findings)
        before = judge.measure(model)
        repaired = repair_in_sequence(model, used, given.findings, self.methods, run=run)
        return Mended(
            repaired=repaired,
            data=data,
            rest=rest,
            before=before,
            after=judge.measure(repaired.model),
            warnings=warnings,
        )

    def scan_again(self, mended: Mended, targets: Sequence[int]) -> ScanResult:
        """Scan the repaired copy with the images that the repair has not seen."""
        return verify(mended.model, mended.rest, targets, scan=self.scan, run=self.run)

    def repair_report(
        self,
        mended: Mended,
        given: Given,
        again: ScanResult | None,
        *,
        out: Path | None,
        json_file: Path | None,
    ) -> RepairReport:
        """Save the triggers where no file holds them yet, and return the report.

        Args:
            mended: the repaired copy.
            given: what it was made from.
            again: the new scan, if one was made.
            out: where the repaired model was written; None where it was not.
            json_file: where the report goes; the triggers go beside it. None saves none.

        Raises:
            InputError: a trigger's file cannot be written.

        """
        folder = triggers_folder(json_file, None)
        warnings = [*self.inputs.warnings, *given.warnings, *mended.warnings]
        told = [text for text in ([] if again is None else again.warnings) if text not in warnings]
        return repair_report(
            mended.repaired.steps,
            self.inputs.model,
            mended.data,
            given.findings,
            before=mended.before,
            after=mended.after,
            run=self.run,
            methods=self.methods,
            seconds=time.monotonic() - self.begun,
            started=self.started,
            output="" if out is None else str(out),
            output_sha256=None if out is None else model_sha256(out, format_of(out)),
            verification=None if again is None else verification_facts(again),
            trigger_files=given.files or save_triggers(given.findings, folder, json_file),
            warnings=tuple(dict.fromkeys([*warnings, *(f"the new scan: {text}" for text in told)])),
            command=self.command,
        )


def check_held_out(images: int, share: float) -> None:
    """Notice before the work that too few images would be left to scan the repaired model with.

    Raises:
        DataError: fewer than a scan takes.

    """
    rest = images - round(share * images)
    if rest < FEWEST_IMAGES:
        raise DataError(
            f"expected {FEWEST_IMAGES} images or more to scan the repaired model with, "
            f"got {rest} of {images}: give more images, a smaller --use, or --no-verify"
        )


def rehearse(model: Classifier, out: Path, n_plus_one_file: Path | None) -> None:
    """Write the model as it is to a place that vanishes: what is wrong with a path shows before the work."""
    check_place(model, out)
    with tempfile.TemporaryDirectory() as folder:
        plan = None if n_plus_one_file is None else Path(folder) / "n_plus_one" / n_plus_one_file.name
        write_models(model, model, Path(folder) / out.name, plan, [0])


def write_models(
    original: Classifier,
    repaired: Classifier,
    out: Path,
    n_plus_one_file: Path | None,
    targets: Sequence[int],
) -> None:
    """Write the repaired model, and the one of N + 1 classes where it is wanted."""
    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(repaired, out)
    if n_plus_one_file is not None:
        n_plus_one_file.parent.mkdir(parents=True, exist_ok=True)
        save_model(n_plus_one(original, repaired, targets), n_plus_one_file)


def given_findings(
    model: Classifier,
    *,
    findings_file: Path | None = None,
    known: Sequence[str] = (),
    labels: list[int] | None = None,
    blind: bool = False,
) -> Given | None:
    """Return the findings that were given, or None where the model has to be scanned first.

    Args:
        model: the model to repair.
        findings_file: a scan's JSON.
        known: triggers that are known, each FILE:LABEL.
        labels: which of the findings.
        blind: the model is repaired though nothing was looked for.

    Raises:
        DataError: no scan's JSON, or no trigger that fits.
        LabelError: labels that were not flagged, or are beyond the model's classes.
        OptionError: a known trigger that is not written so.

    """
    if findings_file is not None:
        return read_findings(findings_file, model, labels)
    if known:
        return known_findings(known, model)
    if not blind:
        return None
    if labels and max(labels) >= model.num_classes:
        raise LabelError(f"expected labels of 0 to {model.num_classes - 1}, got {max(labels)}")
    return Given(findings=(), blind=True)


def check_blind(methods: Sequence[Method]) -> None:
    """Refuse repairs that can do nothing without a trigger.

    Raises:
        OptionError: there is one among them.

    """

    def is_needy(method: Method) -> bool:
        return isinstance(method, Repair) and method.needs_triggers()

    needy = [method.name for method in methods if is_needy(method)]
    if needy:
        able = [name for name, repair in catalog.methods("repairs").items() if not is_needy(repair())]
        raise OptionError(
            f"expected methods that need no trigger with --blind ({', '.join(able)}), got {', '.join(needy)}"
        )


def ended(mended: Mended, again: ScanResult | None) -> tuple[Outcome, str]:
    """Return what a repair came to, and what is wrong with it, if anything is.

    Args:
        mended: the repaired copy.
        again: the new scan, if one was made.

    """
    outcome = repair_outcome(mended.before, mended.after, again)
    if outcome == "not repaired":
        verdict = None if again is None else again.verdict
        return outcome, f"not repaired: {'; '.join(shortcomings(mended.before, mended.after, verdict))}"
    if outcome == "not verified":
        reasons = [] if mended.after.per_target else [UNMEASURED]
        if again is not None and again.verdict == "inconclusive":
            reasons.append(f"the new scan is inconclusive, since {again.reason}")
        return outcome, f"the repair could not be verified: {'; '.join(reasons)}"
    return outcome, ""
