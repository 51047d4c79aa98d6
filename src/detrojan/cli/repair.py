"""`detrojan repair`: mend a model."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detrojan.cli import types
from detrojan.cli.inputs import Inputs, load_inputs
from detrojan.cli.options import (
    FILE,
    DataOptions,
    ModelOptions,
    OutputOptions,
    RunOptions,
    data_options,
    model_options,
    output_options,
    run_options,
    set_option,
)
from detrojan.cli.state import current
from detrojan.errors import DataError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detrojan.cli.findings import Given
    from detrojan.data.dataset import Dataset
    from detrojan.findings import ScanResult
    from detrojan.models.classifier import Classifier
    from detrojan.repairs.base import Repaired
    from detrojan.report.report import Measures, RepairReport, ScanReport
    from detrojan.run import Run
    from detrojan.scans.base import Scan
    from detrojan.workflow import Outcome

#: the exit code that says what a repair came to
OUTCOMES: dict[Outcome, int] = {"repaired": 0, "not repaired": 1, "not verified": 3}


@click.command(
    "repair",
    short_help="Mend a model, and check the repair.",
    epilog="\b\nExample:\n"
    "  detrojan repair model.h5 --net deepid --data faces.npz --findings scan.json \\\n"
    "      --method prune,finetune --out repaired.h5 --json repair.json --html repair.html",
)
@model_options
@data_options(samples="  [default: all]")
@click.option(
    "--findings",
    "findings_file",
    type=FILE,
    metavar="JSON",
    help="A scan's JSON, its triggers beside it.  [default: scan first]",
)
@click.option(
    "--trigger",
    "known",
    multiple=True,
    metavar="FILE:LABEL",
    help="A trigger that is known, and its target, instead of a scan's. May be repeated.",
)
@click.option("--labels", type=types.Labels(), help="Labels to scan, or which of the findings to repair.")
@click.option(
    "--method",
    default="adversarial",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="Repairs, one after the other.",
)
@set_option("repair")
@click.option(
    "--use",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of the images to repair with; the others measure before and after.",
)
@click.option("--out", type=FILE, required=True, metavar="FILE", help="The repaired model, of MODEL's kind.")
@click.option(
    "--n-plus-one",
    "n_plus_one_file",
    type=FILE,
    metavar="FILE",
    help="Also write a model with one more class, for backdoored inputs (.safetensors).",
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Scan the repaired model again.")
@output_options
@run_options
def command(
    model: ModelOptions,
    data: DataOptions,
    out: Path,
    n_plus_one_file: Path | None,
    output: OutputOptions,
    surroundings: RunOptions,
    **how: Any,
) -> int:
    """Write a repaired copy of MODEL, measured before and after, and scanned again.

    Only clean images and the triggers that a scan recovered, or those of --trigger, are used. Exit
    codes: 0 repaired (no such trigger works on 5% of the images, clean accuracy, or agreement where there
    are no labels, fell by at most 20 points and by less than half, and the new scan, if one was wanted,
    finds no evidence of a backdoor) or nothing to repair, 1 not repaired, 2 error, 3 the first scan is
    inconclusive, or the new one, or it could not be made, so that the repair could not be verified, 4
    wrong usage.
    """
    from detrojan.cli.outputs import check_triggers, check_writable, emit  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.cli.scan import scan_named  # noqa: PLC0415
    from detrojan.cli.settings import methods_named  # noqa: PLC0415
    from detrojan.cli.surroundings import kept, start  # noqa: PLC0415
    from detrojan.report.pictures import pictures_of  # noqa: PLC0415

    if how["known"] and how["findings_file"] is not None:
        raise OptionError("expected --findings or --trigger, got both")
    run, started, begun = start(surroundings), datetime.now(UTC), time.monotonic()
    check_writable(output.json_file, output.html_file, out, n_plus_one_file)
    if how["findings_file"] is None:  # its triggers lie in files already
        check_triggers(output.json_file)
    methods = methods_named("repairs", how["method"].split(","), how["settings"])
    inputs = load_inputs(model, data, run)
    _rehearse(inputs.model, out, n_plus_one_file)
    given = _given(how["findings_file"], how["known"], how["labels"], inputs.model)
    if how["verify"] and (given is None or given.findings):
        check_held_out(len(inputs.data), how["use"])
    with kept(run, surroundings, inputs.model.origin.sha256, inputs.data.sha256) as run:
        scan = scan_named("cascade")
        job = _Job(inputs=inputs, run=run, scan=scan, methods=methods, started=started, begun=begun)
        given = given or job.scan_first(how["labels"], output)
        if not given.findings:
            return _nothing_to_repair(given, output)
        mended = job.mend(given, how["use"])
        # what has taken the time is kept, whatever becomes of the new scan
        _write(inputs.model, mended.model, out, n_plus_one_file, [entry.label for entry in given.findings])
        again = job.scan_again(mended, given) if how["verify"] else None
        report = job.repair_report(mended, given, again, out=out, output=output)
        emit(report, output, pictures_of(given.findings, inputs.data.images))
        if again is not None and again.details.get("interrupted"):
            raise KeyboardInterrupt  # the state is kept, and --resume goes on from it
    return _ended(mended, again)


def _given(
    findings_file: Path | None, known: Sequence[str], labels: list[int] | None, model: Classifier
) -> Given | None:
    """Return the findings that the user gave, or None where the model has to be scanned first."""
    from detrojan.cli.findings import known_findings, read_findings  # noqa: PLC0415

    if findings_file is not None:
        return read_findings(findings_file, model, labels)
    return known_findings(known, model) if known else None


def _nothing_to_repair(given: Given, output: OutputOptions) -> int:
    """Show the scan that flagged no label, and return the exit code."""
    from detrojan.cli.outputs import emit  # noqa: PLC0415
    from detrojan.cli.scan import EXIT  # noqa: PLC0415

    assert given.report is not None
    emit(given.report, output)
    for text in given.warnings:
        current().note(f"warning: {text}", "bold yellow")
    current().note("nothing to repair: no label was flagged; no model was written")
    return EXIT[given.report.verdict] if given.report.verdict == "inconclusive" else 0


def _ended(mended: _Mended, again: ScanResult | None) -> int:
    """Say on stderr what is wrong with the repair, if anything is, and return the exit code."""
    from detrojan.report.outcome import shortcomings  # noqa: PLC0415
    from detrojan.workflow import repair_outcome  # noqa: PLC0415

    outcome = repair_outcome(mended.before, mended.after, again)
    if outcome == "not repaired":
        verdict = None if again is None else again.verdict
        current().note(f"not repaired: {'; '.join(shortcomings(mended.before, mended.after, verdict))}")
    elif outcome == "not verified" and again is not None:
        current().note(
            f"the repair could not be verified: the new scan is inconclusive, since {again.reason}"
        )
    return OUTCOMES[outcome]


@dataclass(frozen=True, kw_only=True)
class _Mended:
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


class _Job:
    """One repair under way, and what its reports need."""

    def __init__(
        self, *, inputs: Inputs, run: Run, scan: Scan, methods: list[Any], started: datetime, begun: float
    ) -> None:
        self.inputs, self.run, self.scan, self.methods = inputs, run, scan, methods
        self.started, self.begun = started, begun

    def scan_first(self, labels: list[int] | None, output: OutputOptions) -> Given:
        """Scan the delivered model; an interrupted scan's report is written, and nothing is repaired."""
        from detrojan.cli.findings import Given  # noqa: PLC0415
        from detrojan.cli.outputs import emit  # noqa: PLC0415

        data, wanted = self.inputs.data, getattr(self.scan, "samples", None)
        if wanted is not None and wanted < len(data):  # the images that `detrojan scan` would draw
            data = data.sample(wanted, self.run.generator("data"))
        result = self.scan.scan(self.inputs.model, data, run=self.run, labels=labels)
        report = self.scan_report(result)
        if result.details.get("interrupted"):
            emit(report, output)
            raise KeyboardInterrupt  # the state is kept, and --resume goes on from it
        return Given(findings=result.flagged, warnings=result.warnings, report=report)

    def scan_report(self, result: ScanResult) -> ScanReport:
        """Return the report of the first scan."""
        from detrojan.report.report import scan_report  # noqa: PLC0415

        return scan_report(
            replace(result, warnings=(*self.inputs.warnings, *result.warnings)),
            self.inputs.model,
            self.inputs.data,
            run=self.run,
            method=self.scan,
            seconds=time.monotonic() - self.begun,
            started=self.started,
            command=current().command,
        )

    def mend(self, given: Given, share: float) -> _Mended:
        """Repair on one part of the data, and measure on the other."""
        from detrojan import workflow  # noqa: PLC0415

        model, run = self.inputs.model, self.run
        data, warnings = workflow.with_usable_labels(model, self.inputs.data, run=run)
        used, rest = data.split(round(share * len(data)), run.generator("repair", "split"))
        judge = workflow.Judge.of(model, rest, given.findings)
        before = judge.measure(model)
        repaired = workflow.repair_in_sequence(model, used, given.findings, self.methods, run=run)
        return _Mended(
            repaired=repaired,
            data=data,
            rest=rest,
            before=before,
            after=judge.measure(repaired.model),
            warnings=warnings,
        )

    def scan_again(self, mended: _Mended, given: Given) -> ScanResult:
        """Scan the repaired copy with the images that the repair has not seen."""
        from detrojan.workflow import verify  # noqa: PLC0415

        targets = [finding.label for finding in given.findings]
        return verify(mended.model, mended.rest, targets, scan=self.scan, run=self.run)

    def repair_report(
        self, mended: _Mended, given: Given, again: ScanResult | None, *, out: Path, output: OutputOptions
    ) -> RepairReport:
        """Save the triggers where no file holds them yet, and return the report."""
        from detrojan.cli.outputs import save_triggers, triggers_folder  # noqa: PLC0415
        from detrojan.report.report import repair_report  # noqa: PLC0415
        from detrojan.workflow import verification_facts  # noqa: PLC0415

        folder = triggers_folder(output.json_file, None)
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
            output=str(out),
            verification=None if again is None else verification_facts(again),
            trigger_files=given.files or save_triggers(given.findings, folder, output.json_file),
            warnings=tuple(dict.fromkeys([*warnings, *(f"the new scan: {text}" for text in told)])),
            command=current().command,
        )


def check_held_out(images: int, share: float) -> None:
    """Notice before the work that too few images would be left to scan the repaired model with.

    Raises:
        DataError: fewer than a scan takes.

    """
    from detrojan.scans.preparing import FEWEST_IMAGES  # noqa: PLC0415

    rest = images - round(share * images)
    if rest < FEWEST_IMAGES:
        raise DataError(
            f"expected {FEWEST_IMAGES} images or more to scan the repaired model with, "
            f"got {rest} of {images}: give more images, a smaller --use, or --no-verify"
        )


def _rehearse(model: Classifier, out: Path, n_plus_one_file: Path | None) -> None:
    """Write the model as it is to a place that vanishes: what is wrong with a path shows before the work."""
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        plan = None if n_plus_one_file is None else Path(folder) / "n_plus_one" / n_plus_one_file.name
        _write(model, model, Path(folder) / out.name, plan, [0])


def _write(
    original: Classifier,
    repaired: Classifier,
    out: Path,
    n_plus_one_file: Path | None,
    targets: Sequence[int],
) -> None:
    from detrojan.models.n_plus_one import n_plus_one  # noqa: PLC0415
    from detrojan.models.writing import save_model  # noqa: PLC0415

    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(repaired, out)
    if n_plus_one_file is not None:
        n_plus_one_file.parent.mkdir(parents=True, exist_ok=True)
        save_model(n_plus_one(original, repaired, targets), n_plus_one_file)
