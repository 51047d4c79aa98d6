"""`detrojan repair`: mend a model."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from detrojan.console import types
from detrojan.console.options import (
    FILE,
    OutputOptions,
    RunOptions,
    data_options,
    model_options,
    output_options,
    run_options,
    set_option,
)
from detrojan.console.state import current
from detrojan.errors import OptionError
from detrojan.jobs.sources import DataSource, ModelSource

if TYPE_CHECKING:
    from detrojan.jobs.findings import Given
    from detrojan.jobs.repair_job import Job
    from detrojan.jobs.repairing import Outcome

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
@click.option(
    "--blind",
    is_flag=True,
    help="Repair without a scan's findings, by methods that need no trigger, such as fine_pruning.",
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
@output_options("repair")
@run_options
def command(
    model: ModelSource,
    data: DataSource,
    out: Path,
    n_plus_one_file: Path | None,
    output: OutputOptions,
    surroundings: RunOptions,
    **how: Any,
) -> int:
    """Write a repaired copy of MODEL, measured before and after, and scanned again.

    A repair uses clean images, and the triggers that a scan recovered or that --trigger names.

    "Repaired" means that none of these triggers works on 5% of the images, and that the new scan finds
    no evidence of a backdoor. Clean accuracy, or agreement where there are no labels, may fall by up to
    20 points, and by less than half.

    Exit codes: 0 repaired, or nothing to repair; 1 not repaired; 2 error; 3 not verified; 4 wrong
    usage. A repair is not verified where a scan is inconclusive or cannot be made, or where there is no
    trigger to measure with.
    """
    from detrojan.console.outputs import check_model_place, check_triggers, check_writable  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import kept, start  # noqa: PLC0415
    from detrojan.jobs import repair_job  # noqa: PLC0415
    from detrojan.jobs.inputs import load_inputs  # noqa: PLC0415
    from detrojan.jobs.scanning import scan_named  # noqa: PLC0415
    from detrojan.jobs.settings import methods_named  # noqa: PLC0415

    _check_sources(how, n_plus_one_file)
    run, started, begun = start(surroundings), datetime.now(UTC), time.monotonic()
    check_writable(*output.files.values(), n_plus_one_file)
    check_model_place(out, model.model)
    if how["findings_file"] is None:  # its triggers lie in files already
        check_triggers(output.json_file)
    methods: list[Any] = methods_named("repairs", how["method"].split(","), how["settings"])
    labels, blind = how["labels"], how["blind"]
    if blind:
        repair_job.check_blind(methods)
    inputs = load_inputs(model, data, run, check="later")
    repair_job.rehearse(inputs.model, out, n_plus_one_file)
    given = repair_job.given_findings(
        inputs.model, findings_file=how["findings_file"], known=how["known"], labels=labels, blind=blind
    )
    if how["verify"] and (given is None or blind or given.findings):
        repair_job.check_held_out(len(inputs.data), how["use"])
    with kept(run, surroundings, inputs.model.origin.sha256, inputs.data.sha256) as run:
        job = repair_job.Job(
            inputs=inputs, run=run, scan=scan_named("cascade"), methods=methods, started=started, begun=begun,
            command=current().command,
        )  # fmt: skip
        given = given or job.scan_first(labels)
        if given.interrupted:
            _stopped(given, output)
        if not given.findings and not blind:
            return _nothing_to_repair(given, output)
        return _repaired(job, given, how, out, n_plus_one_file, output)


def _repaired(
    job: Job,
    given: Given,
    how: dict[str, Any],
    out: Path,
    n_plus_one_file: Path | None,
    output: OutputOptions,
) -> int:
    """Repair, write the models, scan again, report, and return the exit code."""
    from detrojan.console.outputs import emit  # noqa: PLC0415
    from detrojan.jobs.repair_job import ended, write_models  # noqa: PLC0415
    from detrojan.report.pictures import pictures_of  # noqa: PLC0415

    model = job.inputs.model
    mended = job.mend(given, how["use"])
    # what has taken the time is kept, whatever becomes of the new scan
    targets = [entry.label for entry in given.findings]
    write_models(model, mended.model, out, n_plus_one_file, targets)
    if given.blind:  # any label may be a target
        targets = how["labels"] or [*range(model.num_classes)]
    again = job.scan_again(mended, targets) if how["verify"] else None
    report = job.repair_report(mended, given, again, out=out, json_file=output.json_file)
    emit(report, output, pictures_of(given.findings, job.inputs.data.images, model=model))
    if again is not None and again.details.get("interrupted"):
        raise KeyboardInterrupt  # the state is kept, and --resume goes on from it
    outcome, complaint = ended(mended, again)
    if complaint:
        current().note(complaint)
    return OUTCOMES[outcome]


def _check_sources(how: dict[str, Any], n_plus_one_file: Path | None) -> None:
    """Refuse more than one source of findings, and none where there has to be one.

    Raises:
        OptionError: of --findings, --trigger and --blind two are given, or --n-plus-one with --blind.

    """
    options = {
        "--findings": how["findings_file"] is not None,
        "--trigger": how["known"],
        "--blind": how["blind"],
    }
    got = [name for name, is_given in options.items() if is_given]
    if len(got) > 1:
        raise OptionError(f"expected one of {', '.join(options)}, got {' and '.join(got)}")
    if how["blind"] and n_plus_one_file is not None:
        raise OptionError("expected findings for --n-plus-one, whose answer is for their labels; got --blind")


def _stopped(given: Given, output: OutputOptions) -> NoReturn:
    """Show the scan that was stopped; its state is kept, and --resume goes on from it."""
    from detrojan.console.outputs import emit  # noqa: PLC0415

    assert given.report is not None
    emit(given.report, output)
    raise KeyboardInterrupt


def _nothing_to_repair(given: Given, output: OutputOptions) -> int:
    """Show the scan that flagged no label, and return the exit code."""
    from detrojan.console.outputs import emit  # noqa: PLC0415

    assert given.report is not None
    emit(given.report, output)
    for text in given.warnings:
        current().note(f"warning: {text}", "bold yellow")
    current().note(
        "nothing to repair: no label was flagged; no model was written (--blind repairs nevertheless)"
    )
    return 3 if given.report.verdict == "inconclusive" else 0
