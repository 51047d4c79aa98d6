"""What `detrojan repair` does between reading its options and saying what became of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrojan.cli.inputs import Inputs
from detrojan.cli.options import OutputOptions
from detrojan.cli.state import current
from detrojan.errors import DataError

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


class Job:
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

        data, wanted = self.inputs.data, self.scan.samples
        if wanted < len(data):  # the images that `detrojan scan` would draw
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

    def mend(self, given: Given, share: float) -> Mended:
        """Repair on one part of the data, and measure on the other."""
        from detrojan.jobs import repairing  # noqa: PLC0415

        model, run = self.inputs.model, self.run
        data, warnings = repairing.with_usable_labels(model, self.inputs.data, run=run)
        used, rest = data.split(round(share * len(data)), run.generator("repair", "split"))
        judge = repairing.Judge.of(model, rest, given.findings)
        before = judge.measure(model)
        repaired = repairing.repair_in_sequence(model, used, given.findings, self.methods, run=run)
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
        from detrojan.jobs.repairing import verify  # noqa: PLC0415

        return verify(mended.model, mended.rest, targets, scan=self.scan, run=self.run)

    def repair_report(
        self, mended: Mended, given: Given, again: ScanResult | None, *, out: Path, output: OutputOptions
    ) -> RepairReport:
        """Save the triggers where no file holds them yet, and return the report."""
        from detrojan.cli.outputs import save_triggers, triggers_folder  # noqa: PLC0415
        from detrojan.jobs.repairing import verification_facts  # noqa: PLC0415
        from detrojan.report.report import repair_report  # noqa: PLC0415

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
    from detrojan.judging.preparing import FEWEST_IMAGES  # noqa: PLC0415

    rest = images - round(share * images)
    if rest < FEWEST_IMAGES:
        raise DataError(
            f"expected {FEWEST_IMAGES} images or more to scan the repaired model with, "
            f"got {rest} of {images}: give more images, a smaller --use, or --no-verify"
        )


def rehearse(model: Classifier, out: Path, n_plus_one_file: Path | None) -> None:
    """Write the model as it is to a place that vanishes: what is wrong with a path shows before the work."""
    import tempfile  # noqa: PLC0415

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
    from detrojan.models.surgery.n_plus_one import n_plus_one  # noqa: PLC0415
    from detrojan.models.writing import save_model  # noqa: PLC0415

    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(repaired, out)
    if n_plus_one_file is not None:
        n_plus_one_file.parent.mkdir(parents=True, exist_ok=True)
        save_model(n_plus_one(original, repaired, targets), n_plus_one_file)
