"""`detrojan repair`: mend a model."""

from __future__ import annotations

import time
from dataclasses import replace
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
from detrojan.errors import DataError, LabelError, ModelError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detrojan.data.dataset import Dataset
    from detrojan.findings import Finding, ScanResult
    from detrojan.models.classifier import Classifier
    from detrojan.report.report import RepairReport
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
    codes: 0 repaired (no such trigger works on 5% of the images, and the new scan, if one was wanted,
    finds no evidence of a backdoor) or nothing to repair, 1 not repaired, 2 error, 3 the first scan is
    inconclusive, or the new one, so that the repair could not be verified, 4 wrong usage.
    """
    from detrojan.cli.outputs import check_writable, emit  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.cli.scan import EXIT, scan_named  # noqa: PLC0415
    from detrojan.cli.settings import methods_named  # noqa: PLC0415
    from detrojan.cli.surroundings import kept, start  # noqa: PLC0415
    from detrojan.report.pictures import pictures_of  # noqa: PLC0415

    if how["known"] and how["findings_file"] is not None:
        raise OptionError("expected --findings or --trigger, got both")
    run, started, begun = start(surroundings), datetime.now(UTC), time.monotonic()
    check_writable(output.json_file, output.html_file, out, n_plus_one_file)
    methods = methods_named("repairs", how["method"].split(","), how["settings"])
    inputs = load_inputs(model, data, run)
    _rehearse(inputs.model, out, n_plus_one_file)
    with kept(run, surroundings, inputs.model.origin.sha256, inputs.data.sha256) as run:
        scan = scan_named("cascade")
        job = _Job(inputs=inputs, run=run, scan=scan, methods=methods, started=started, begun=begun)
        if how["findings_file"] is not None:
            findings, files, more = read_findings(how["findings_file"], inputs.model, how["labels"])
            job.warnings += more
        elif how["known"]:
            findings, files = known_findings(how["known"], inputs.model), dict[int, str]()
        else:
            result = scan.scan(inputs.model, inputs.data, run=run, labels=how["labels"])
            findings, files = result.flagged, dict[int, str]()
            job.warnings += result.warnings
            if not findings:
                emit(job.scan_report(result), output)
                current().note("nothing to repair: no label was flagged; no model was written")
                return EXIT[result.verdict] if result.verdict == "inconclusive" else 0
        report, repaired, outcome = job.repair(
            findings, files, share=how["use"], verify=how["verify"], out=out, output=output
        )
        _write(inputs.model, repaired, out, n_plus_one_file, [entry.label for entry in findings])
        emit(report, output, pictures_of(findings, inputs.data.images))
    if outcome == "not repaired":
        current().note("not repaired: a trigger still works, or the new scan finds a backdoor")
    elif outcome == "not verified":
        current().note("the repair could not be verified: the new scan is inconclusive")
    return OUTCOMES[outcome]


class _Job:
    """One repair under way, and what its reports need."""

    def __init__(
        self, *, inputs: Inputs, run: Run, scan: Scan, methods: list[Any], started: datetime, begun: float
    ) -> None:
        self.inputs, self.run, self.scan, self.methods = inputs, run, scan, methods
        self.started, self.begun = started, begun
        self.warnings: tuple[str, ...] = inputs.warnings

    def scan_report(self, result: ScanResult) -> Any:
        """Return the report of the scan that found nothing."""
        from detrojan.report.report import scan_report  # noqa: PLC0415

        return scan_report(
            replace(result, warnings=self.warnings),
            self.inputs.model,
            self.inputs.data,
            run=self.run,
            method=self.scan,
            seconds=time.monotonic() - self.begun,
            started=self.started,
            command=current().command,
        )

    def repair(
        self,
        findings: Sequence[Finding],
        files: dict[int, str],
        *,
        share: float,
        verify: bool,
        out: Path,
        output: OutputOptions,
    ) -> tuple[RepairReport, Classifier, Outcome]:
        """Repair on one part of the data, measure on the other, scan again; return the report."""
        from detrojan import workflow  # noqa: PLC0415
        from detrojan.cli.outputs import save_triggers, triggers_folder  # noqa: PLC0415
        from detrojan.report.report import repair_report  # noqa: PLC0415

        model, run = self.inputs.model, self.run
        data, more = workflow.with_usable_labels(model, self.inputs.data, run=run)
        used, rest = self._split(data, share)
        judge = workflow.Judge.of(model, rest, findings)
        before = judge.measure(model)
        repaired = workflow.repair_in_sequence(model, used, findings, self.methods, run=run)
        after = judge.measure(repaired.model)
        targets = [finding.label for finding in findings]
        again = workflow.verify(repaired.model, rest, targets, scan=self.scan, run=run) if verify else None
        if not files:
            folder = triggers_folder(output.json_file, None)
            files = save_triggers(findings, folder, output.json_file)
        report = repair_report(
            repaired.steps,
            model,
            data,
            findings,
            before=before,
            after=after,
            run=run,
            methods=self.methods,
            seconds=time.monotonic() - self.begun,
            started=self.started,
            output=str(out),
            verification=None if again is None else verification(again),
            trigger_files=files,
            warnings=tuple(dict.fromkeys((*self.warnings, *more))),
            command=current().command,
        )
        return report, repaired.model, workflow.repair_outcome(after, again)

    def _split(self, data: Dataset, share: float) -> tuple[Dataset, Dataset]:
        return data.split(round(share * len(data)), self.run.generator("repair", "split"))


def verification(result: ScanResult) -> dict[str, Any]:
    """Return what a re-scan said, for a repair's report."""
    return {
        "verdict": result.verdict,
        "reason": result.reason,
        "targets": result.targets,
        "labels_tested": [finding.label for finding in result.findings],
        "passes": result.passes,
    }


def known_findings(texts: Sequence[str], model: Classifier) -> tuple[Finding, ...]:
    """Return findings made of triggers that are known, each written FILE:LABEL.

    Raises:
        OptionError: not written so, or a label twice.
        DataError: no trigger, or one that does not fit the model.
        LabelError: a label beyond the model's classes.

    """
    from detrojan.cli.inputs import load_trigger  # noqa: PLC0415
    from detrojan.findings import Finding  # noqa: PLC0415

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
            anomaly_index=float("nan"),
            mask_l1=float("nan"),
            attack_success=float("nan"),
            flagged=True,
            trigger=load_trigger(Path(path), model.input_shape),
        )
    return tuple(findings.values())


def read_findings(
    path: Path, model: Classifier, labels: list[int] | None
) -> tuple[tuple[Finding, ...], dict[int, str], tuple[str, ...]]:
    """Return the findings of a scan's JSON with their triggers, the triggers' files, and warnings.

    Args:
        path: the JSON; the triggers' files are looked for from its folder.
        model: the model to repair.
        labels: which of the flagged labels; None for all.

    Raises:
        DataError: no scan's JSON, no trigger saved, or one that does not fit the model.
        LabelError: a label that was not flagged, or is beyond the model's classes.

    """
    from detrojan.cli.inputs import load_trigger  # noqa: PLC0415
    from detrojan.findings import Finding  # noqa: PLC0415
    from detrojan.report.report import ScanReport, load_report  # noqa: PLC0415

    report = load_report(path)
    if not isinstance(report, ScanReport):
        raise DataError(f"{path}: expected a scan's JSON, got {report.schema_}")
    flagged = {entry.label: entry for entry in report.findings}
    wrong = [label for label in labels or [] if label not in flagged]
    if wrong or not flagged:
        raise LabelError(f"{path}: expected flagged labels out of {report.targets}, got {wrong or 'none'}")
    if max(flagged) >= model.num_classes:
        raise LabelError(
            f"{path}: expected labels of 0 to {model.num_classes - 1} as the model's classes, "
            f"got {max(flagged)}"
        )
    findings, files = [], {}
    for entry in report.findings:
        if labels and entry.label not in labels:
            continue
        if entry.trigger is None:
            raise DataError(
                f"{path}: no trigger was saved for label {entry.label}; scan again with --json or --triggers"
            )
        files[entry.label] = entry.trigger
        findings.append(
            Finding(
                label=entry.label,
                anomaly_index=float("nan") if entry.anomaly_index is None else entry.anomaly_index,
                mask_l1=float("nan") if entry.mask_l1 is None else entry.mask_l1,
                attack_success=float("nan") if entry.attack_success is None else entry.attack_success,
                flagged=True,
                p_value=entry.p_value,
                severity=entry.severity,
                confidence=entry.confidence,
                trigger=load_trigger(path.parent / entry.trigger, model.input_shape),
                source=entry.source,
            )
        )
    other = report.model.sha256 != model.origin.sha256
    said = f"{path} was made from another model file (SHA-256 {report.model.sha256[:12]}...)"
    return tuple(findings), files, ((said,) if other else ())


def _rehearse(model: Classifier, out: Path, n_plus_one_file: Path | None) -> None:
    """Write the model as it is to a place that vanishes: what is wrong with a path shows before the work."""
    import tempfile  # noqa: PLC0415

    original = Path(model.origin.path)
    for path in (out, n_plus_one_file):
        if path is not None and path.exists() and original.exists() and path.samefile(original):
            raise ModelError(f"expected another path than the original {path}, which is never overwritten")
    if n_plus_one_file is not None and n_plus_one_file.absolute() == out.absolute():
        raise OptionError(f"expected two files for --out and --n-plus-one, got {out} for both")
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
