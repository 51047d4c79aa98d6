"""`detrojan evaluate`: measure a model on clean images and on stamped ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from detrojan.console import types
from detrojan.console.options import (
    FILE,
    OutputOptions,
    RunOptions,
    data_options,
    model_options,
    output_options,
    short_run_options,
)
from detrojan.console.state import current
from detrojan.errors import OptionError
from detrojan.jobs.sources import DataSource, ModelSource


@click.command(
    "evaluate",
    short_help="Measure a model on clean and stamped images.",
    epilog="\b\nExample:\n"
    "  detrojan evaluate repaired.h5 --net deepid --data faces.npz --against model.h5 \\\n"
    "      --trigger scan_triggers/label_0.safetensors --target 0",
)
@model_options
@data_options()
@click.option(
    "--trigger",
    "trigger_file",
    type=FILE,
    metavar="FILE",
    help="A trigger (.safetensors), or a picture that is stamped; where it is transparent, nothing is.",
)
@click.option("--at", "place", type=types.PLACE, help="Where the picture's upper left corner goes.")
@click.option("--size", type=types.SIZE, help="Bring the picture to this size first.")
@click.option(
    "--target", type=click.IntRange(min=0), metavar="LABEL", help="The label that the trigger leads to."
)
@click.option("--untargeted", is_flag=True, help="Count every stamped image that is answered wrongly.")
@click.option(
    "--against", type=FILE, metavar="MODEL", help="Also compare with the answers of this other model."
)
@output_options("evaluate")
@short_run_options
def command(
    model: ModelSource,
    data: DataSource,
    output: OutputOptions,
    surroundings: RunOptions,
    **asked: Any,
) -> int:
    """Measure MODEL: clean accuracy, agreement with another model, success of a trigger.

    The attack's success counts images of other classes than the target. Without labels the answers of
    --against, or the model's own, are used instead. For a model of N + 1 classes, as `repair
    --n-plus-one` writes it, two more shares are reported. One is how many stamped images it catches,
    the other how many clean ones it calls backdoored. Such a clean image counts as answered wrongly.
    """
    from detrojan.console.outputs import check_writable, emit  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import start  # noqa: PLC0415
    from detrojan.jobs.evaluating import evaluate, load_judged, stamped_pictures  # noqa: PLC0415
    from detrojan.jobs.triggers import load_trigger  # noqa: PLC0415

    _check(asked)
    run, started, begun = start(surroundings), datetime.now(UTC), time.monotonic()
    check_writable(*output.files.values())
    inputs = load_judged(model, data, run, against=asked["against"])
    trigger, file = None, asked["trigger_file"]
    if file is not None:
        trigger = load_trigger(file, inputs.model.input_shape, place=asked["place"], size=asked["size"])
    target = None if asked["untargeted"] else asked["target"]
    report = evaluate(
        inputs,
        model,
        data,
        run=run,
        started=started,
        begun=begun,
        against=asked["against"],
        trigger=trigger,
        trigger_file=file,
        target=target,
        command=current().command,
    )
    emit(report, output, stamped_pictures(trigger, target, inputs) if output.pictured else {})
    return 0


def _check(asked: dict[str, Any]) -> None:
    aimed = asked["target"] is not None
    if aimed and asked["untargeted"]:
        raise OptionError("expected --target or --untargeted, got both")
    if asked["trigger_file"] is not None and not (aimed or asked["untargeted"]):
        raise OptionError("expected --target LABEL or --untargeted with --trigger")
    if asked["trigger_file"] is None and (aimed or asked["untargeted"] or asked["place"] or asked["size"]):
        raise OptionError("expected --trigger FILE with --target, --untargeted, --at and --size")
