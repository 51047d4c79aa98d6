"""`detrojan predict`: what a model answers."""

from __future__ import annotations

from pathlib import Path

import click

from detrojan.console.options import (
    FILE,
    OutputOptions,
    RunOptions,
    data_options,
    format_option,
    model_options,
    short_run_options,
)
from detrojan.console.state import current
from detrojan.jobs.sources import DataSource, ModelSource


@click.command(
    "predict",
    short_help="Show what a model answers.",
    epilog="\b\nExample:\n  detrojan predict model.safetensors stop.png yield.png --resize 32x32",
)
@model_options
@click.argument("images", nargs=-1, type=FILE)
@data_options(required=False, what="Images")
@click.option(
    "--guard",
    "guard_folder",
    type=FILE,
    metavar="DIR",
    help="A guard for this model (see: detrojan guard calibrate); each input gets its verdict.",
)
@format_option()
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Also write the JSON here.")
@short_run_options
def command(
    model: ModelSource,
    images: tuple[Path, ...],
    data: DataSource,
    guard_folder: Path | None,
    format_: str,
    json_file: Path | None,
    surroundings: RunOptions,
) -> int:
    """Show what MODEL answers: label, class name and probability of each of IMAGES, or of --data.

    IMAGES are pictures, or folders of them.

    A model of N + 1 classes, as `repair --n-plus-one` writes it, answers "backdoored" where only the
    delivered model falls for a trigger. With such a model, or with --guard, the exit code is 1 where an
    input is called backdoored.
    """
    from detrojan.console.outputs import check_writable, emit_values  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import start  # noqa: PLC0415
    from detrojan.guards.bundle import load_guard  # noqa: PLC0415
    from detrojan.jobs.feeding import settle, without_auto  # noqa: PLC0415
    from detrojan.jobs.inputs import load_model_of  # noqa: PLC0415
    from detrojan.jobs.labelling import with_names, with_usable_labels  # noqa: PLC0415
    from detrojan.jobs.predicting import check_images, predict, read_images  # noqa: PLC0415
    from detrojan.report.records.predict import answer_table  # noqa: PLC0415

    check_images(images, data)
    run = start(surroundings)
    check_writable(json_file)
    network = load_model_of(without_auto(model), run)
    found, names = read_images(images, data, run, network)
    found, told = with_usable_labels(network, found)
    network, fed = settle(network, found, model)
    with_names(network, found)
    warnings = [*fed, *(text for text in told if text not in found.warnings)]
    guard = None if guard_folder is None else load_guard(guard_folder, network)
    for text in [*found.warnings, *warnings]:
        current().note(f"warning: {text}", "bold yellow")
    record = predict(network, found, names, guard, warnings)
    emit_values(
        record.values(),
        OutputOptions(format_=format_, files={"json": json_file}),
        answer_table(record.predictions, None if guard is None else guard.statistic),
    )
    return 1 if any(row.backdoored for row in record.predictions) else 0
