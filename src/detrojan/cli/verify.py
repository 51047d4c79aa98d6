"""`detrojan verify`: is this the file that a report is about?"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from detrojan.console.options import FILE, OutputOptions, RunOptions, format_option, seedless_run_options
from detrojan.jobs.sources import DataSource, ModelSource

if TYPE_CHECKING:
    from detrojan.jobs.verifying import Asked


@click.command(
    "verify",
    short_help="Is this the file that a report is about?",
    epilog="\b\nExamples:\n"
    "  detrojan verify scan.json model.h5\n"
    "  detrojan verify scan.json model.h5 --again --data faces.npz",
)
@click.argument("report", type=FILE)
@click.argument("model", type=FILE)
@click.option("--again", is_flag=True, help="Repeat the scan, and compare verdict and figures.")
@click.option("--data", metavar="PATH", help="Where the scan's images lie now; compares them too.")
@format_option()
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Also write the JSON here.")
@seedless_run_options
def command(
    report: Path,
    model: Path,
    again: bool,
    data: str | None,
    format_: str,
    json_file: Path | None,
    surroundings: RunOptions,
) -> int:
    """Say whether MODEL is the file that REPORT, the JSON of a scan or a repair, is about.

    It says too by which version and method the model was judged, when, and what differs here. --again
    repeats the scan with the report's own settings and seed. Figures may differ between machines: they are
    shown, and verdict and targets decide.

    Exit codes: 0 the same, 1 another file, other data or another verdict, 2 error, 4 wrong usage.
    """
    from detrojan.console.outputs import check_writable, emit_values  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import start  # noqa: PLC0415
    from detrojan.jobs.verifying import read_report, verify  # noqa: PLC0415
    from detrojan.report.records.verify import verify_text  # noqa: PLC0415

    run = start(surroundings)
    check_writable(json_file)
    said, _ = read_report(report)
    run = replace(run, seed=said.run.seed)
    asked = _asked(said.run.command, model, data)
    record = verify(report, model, asked=asked, again=again, with_data=data is not None, run=run)
    emit_values(
        record.values(), OutputOptions(format_=format_, files={"json": json_file}), verify_text(record)
    )
    return 0 if record.same else 1


def _asked(words: list[str] | None, model: Path, data: str | None) -> Asked | None:
    """Return what the command of a report asked for, of this model; None where it was no scan's."""
    from detrojan.cli.scan import command as scan  # noqa: PLC0415
    from detrojan.errors import DataError  # noqa: PLC0415
    from detrojan.jobs.verifying import Asked  # noqa: PLC0415
    from detrojan.report.commands import without  # noqa: PLC0415

    if not words or words[:2] != ["detrojan", "scan"]:
        return None
    own = without(words[2:], {"--memory": True, "--debug": False})  # a report sets no limits
    try:
        params = scan.make_context("scan", own, parent=click.get_current_context()).params
    except (click.ClickException, click.exceptions.Exit) as error:
        raise DataError(
            f"expected a report with the command of a scan, got {' '.join(words)!r:.200}"
        ) from error
    source = ModelSource(**{one.name: params[one.name] for one in fields(ModelSource) if one.name in params})
    images = DataSource(**{one.name: params[one.name] for one in fields(DataSource) if one.name in params})
    return Asked(
        model=replace(source, model=model),
        data=images if data is None else replace(images, data=data),
        method=params["method"],
        settings=params["settings"],
        labels=params["labels"],
        budget=params["budget"],
    )
