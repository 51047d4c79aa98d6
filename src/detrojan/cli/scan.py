"""`detrojan scan`: judge a model."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from detrojan.cli import types
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

if TYPE_CHECKING:
    from detrojan.scans.base import Scan

#: the exit code that says the verdict
EXIT = {"no evidence": 0, "backdoored": 1, "inconclusive": 3}


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
    "--method", metavar="NAME", default="cascade", show_default=True, help="See: detrojan list scans."
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Say after about this time what is known by then (cascade only).  [default: no limit]",
)
@set_option("scan")
@click.option(
    "--triggers",
    type=FILE,
    metavar="DIR",
    help="Save the recovered triggers here.  [default: beside the JSON]",
)
@output_options
@run_options
def command(
    model: ModelOptions,
    data: DataOptions,
    labels: list[int] | None,
    method: str,
    budget: float | None,
    settings: tuple[str, ...],
    triggers: Path | None,
    output: OutputOptions,
    surroundings: RunOptions,
) -> int:
    """Judge MODEL: does it have a backdoor, and to which label does it lead?

    Exit codes: 0 no evidence of a backdoor, 1 backdoor found, 2 error, 3 inconclusive, 4 wrong usage.
    "No evidence" is not "clean". It holds for the labels tested, and for triggers of the kind that the
    method looks for.

    Severity says how often the recovered trigger works (high: 90%, medium: 50%). Confidence says how
    unlikely chance alone makes the finding (high: p < 0.001, medium: p < 0.01). Ctrl-C ends the cascade
    with what is known so far. Any other method writes nothing then, and goes on with --resume.
    """
    from detrojan.cli.inputs import load_inputs  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.cli.outputs import (  # noqa: PLC0415
        check_triggers,
        check_writable,
        emit,
        save_triggers,
        triggers_folder,
    )
    from detrojan.cli.surroundings import kept, start  # noqa: PLC0415
    from detrojan.report.pictures import pictures_of  # noqa: PLC0415
    from detrojan.report.report import scan_report  # noqa: PLC0415

    run, started = start(surroundings), datetime.now(UTC)
    check_writable(output.json_file, output.html_file)
    check_triggers(output.json_file, triggers)
    scan = scan_named(method, settings, data.samples, budget)
    inputs = load_inputs(model, data, run, limit=scan.samples, stand_ins=True)
    with kept(run, surroundings, inputs.model.origin.sha256, inputs.data.sha256) as run:
        result = scan.scan(inputs.model, inputs.data, run=run, labels=labels)
        folder = triggers_folder(output.json_file, triggers)
        report = scan_report(
            replace(result, warnings=(*result.warnings, *inputs.warnings)),
            inputs.model,
            inputs.data,
            run=run,
            method=scan,
            started=started,
            trigger_files=save_triggers(result.flagged, folder, output.json_file),
            command=current().command,
        )
        emit(report, output, pictures_of(result.flagged, inputs.data.images))
        if result.details.get("interrupted"):
            raise KeyboardInterrupt  # the state is kept, and --resume goes on from it
    return EXIT[report.verdict]


def scan_named(
    name: str, settings: tuple[str, ...] = (), samples: int | None = None, budget: float | None = None
) -> Scan:
    """Return a scan; what the user asked for by an option of its own goes before its default.

    Raises:
        OptionError: no such scan or setting, or a time limit for a scan that knows none.

    """
    from detrojan import catalog  # noqa: PLC0415
    from detrojan.cli.settings import method_named  # noqa: PLC0415
    from detrojan.errors import OptionError  # noqa: PLC0415
    from detrojan.scans.base import Scan  # noqa: PLC0415

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
