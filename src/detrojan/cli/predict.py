"""`detrojan predict`: what a model answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detrojan.cli.options import (
    FILE,
    DataOptions,
    ModelOptions,
    OutputOptions,
    RunOptions,
    data_options,
    format_option,
    model_options,
    short_run_options,
)

if TYPE_CHECKING:
    from detrojan.data.dataset import Dataset
    from detrojan.models.classifier import Classifier


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
    model: ModelOptions,
    images: tuple[Path, ...],
    data: DataOptions,
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
    from detrojan.cli.guarded import (  # noqa: PLC0415
        check_images,
        guard_rows,
        guard_table,
        overflow_warnings,
        read_images,
    )
    from detrojan.cli.inputs import check_shape, load_model_of  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.cli.outputs import check_writable, emit_values  # noqa: PLC0415
    from detrojan.cli.surroundings import start  # noqa: PLC0415
    from detrojan.guards.bundle import load_guard  # noqa: PLC0415

    check_images(images, data)
    run = start(surroundings)
    check_writable(json_file)
    network = load_model_of(model, run)
    found, names = read_images(images, data, run)
    check_shape(network, found)
    if not network.class_names and len(found.class_names) == network.num_classes:
        network.class_names = found.class_names
    guard = None if guard_folder is None else load_guard(guard_folder, network)
    if guard is None:
        rows = predictions(network, found, names)
        table, warnings = _table(rows), _overflows(rows)
    else:
        rows = guard_rows(guard, found, names, guard.score(found.images))
        table, warnings = guard_table(rows, guard.statistic), overflow_warnings(rows, guard.statistic)
    values = {
        "schema": "detrojan.predict/1",
        "model": {"path": network.origin.path, "sha256": network.origin.sha256, "net": network.origin.net},
        "predictions": rows,
        "warnings": warnings,
    }
    emit_values(values, OutputOptions(format_=format_, json_file=json_file, html_file=None), table)
    return 1 if any(row.get("backdoored") for row in rows) else 0


def predictions(model: Classifier, data: Dataset, names: list[str]) -> list[dict[str, Any]]:
    """Return for each image its name, the answer, its probability, and whether it is "backdoored"."""
    from detrojan.models.surgery.n_plus_one import backdoored_class  # noqa: PLC0415

    best = model.probabilities(data.images).max(1)
    alarm = backdoored_class(model)
    return [
        {
            "input": name,
            "label": label,
            "class_name": model.class_name(label),
            "probability": round(share, 6) if math.isfinite(share) else None,
            **({} if alarm is None else {"backdoored": label == alarm}),
        }
        for name, label, share in zip(names, best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _overflows(rows: list[dict[str, Any]]) -> list[str]:
    """Return what a person has to know of answers that are no numbers; often nothing."""
    from detrojan.words import plural  # noqa: PLC0415

    lost = sum(row["probability"] is None for row in rows)
    if not lost:
        return []
    return [f"{plural(lost, 'input')} without a probability: there the network's answers overflow"]


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from detrojan.words import percent, printable  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.caption, table.caption_justify = " ".join(_overflows(rows)) or None, "left"
    table.add_column("Input", overflow="fold")
    table.add_column("label", justify="right")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    for row in rows:
        style = "bold red" if row.get("backdoored") else ""
        cells = (row["input"], str(row["label"]), row["class_name"], percent(row["probability"]))
        table.add_row(*(Text(printable(cell), style=style) for cell in cells))
    return table
