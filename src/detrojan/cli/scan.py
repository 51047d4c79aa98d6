"""`detrojan scan`: judge a model."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from detrojan.console import types
from detrojan.console.baseline_option import baseline_option
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
from detrojan.jobs.sources import DataSource, ModelSource


@click.command(
    "scan",
    short_help="Judge a model: has it a backdoor?",
    epilog="\b\nExample:\n"
    "  detrojan scan model.h5 --net deepid --data faces.npz --labels 0-39 \\\n"
    "      --json scan.json --html scan.html",
)
@model_options
@data_options(samples="  [default: as many as the method takes]", none=True)
@click.option(
    "--labels", type=types.Labels(), help="Labels to test as targets, e.g. 0-39,77.  [default: all]"
)
@click.option(
    "--method", metavar="NAME", help="See: detrojan list scans.  [default: cascade; with --url peaks]"
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Take no longer than this, start included, and say what was left out (cascade only).  "
    "[default: no limit]",
)
@set_option("scan")
@click.option(
    "--triggers",
    type=FILE,
    metavar="DIR",
    help="Save the recovered triggers here.  [default: beside the JSON]",
)
@baseline_option
@output_options("scan")
@run_options
def command(
    model: ModelSource,
    data: DataSource,
    labels: list[int] | None,
    method: str | None,
    budget: float | None,
    settings: tuple[str, ...],
    triggers: Path | None,
    baseline_file: Path | None,
    output: OutputOptions,
    surroundings: RunOptions,
) -> int:
    """Judge MODEL: does it have a backdoor, and to which label does it lead?

    Exit codes: 0 no evidence of a backdoor, or all findings accepted; 1 backdoor found; 2 error;
    3 inconclusive; 4 wrong usage.
    "No evidence" is not "clean". It holds for the labels tested, and for triggers of the kind that the
    method looks for.

    Severity says how often the recovered trigger works (high: 90%, medium: 50%). Confidence says how
    unlikely chance alone makes the finding (high: p < 0.001, medium: p < 0.01). Ctrl-C ends the cascade
    with what is known so far. Any other method writes nothing then, and goes on with --resume.
    """
    begun = time.monotonic()
    from detrojan.console.outputs import check_triggers, check_writable, emit  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import kept, start  # noqa: PLC0415
    from detrojan.jobs.baselines import read_baseline  # noqa: PLC0415
    from detrojan.jobs.inputs import load_inputs  # noqa: PLC0415
    from detrojan.jobs.scanning import scan_model, scan_named, usual_scan  # noqa: PLC0415
    from detrojan.jobs.triggers import triggers_folder  # noqa: PLC0415
    from detrojan.report.pictures import pictures_of  # noqa: PLC0415
    from detrojan.report.problems import scan_exit  # noqa: PLC0415

    run, started = start(surroundings), datetime.now(UTC)
    check_writable(*output.files.values())
    check_triggers(output.json_file, triggers)
    method = method or usual_scan(answers_only=model.url is not None)
    known = None if baseline_file is None else read_baseline(baseline_file)
    scan = scan_named(method, settings, data.samples, budget)
    inputs = load_inputs(model, data, run, limit=scan.samples, stand_ins=True, check="later")
    origin = inputs.model.origin
    with kept(run, surroundings, origin.sha256 or origin.path, inputs.data.sha256) as run:
        scanned = scan_model(
            inputs,
            scan,
            run=run,
            labels=labels,
            started=started,
            begun=begun,
            folder=triggers_folder(output.json_file, triggers),
            json_file=output.json_file,
            command=current().command,
            known=known,
        )
        pictures = pictures_of(scanned.result.flagged, inputs.data.images, model=inputs.model)
        emit(scanned.report, output, pictures)
        scanned.check_ended()
    return scan_exit(scanned.report)
