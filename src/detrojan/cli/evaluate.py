"""`detrojan evaluate`: measure a model on clean images and on stamped ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
    short_run_options,
)
from detrojan.cli.state import current
from detrojan.errors import LabelError, OptionError

if TYPE_CHECKING:
    import torch

    from detrojan.data.dataset import Dataset
    from detrojan.models.classifier import Classifier
    from detrojan.report.pictures import TriggerPictures
    from detrojan.report.report import Measures
    from detrojan.triggers.base import Trigger


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
@output_options
@short_run_options
def command(
    model: ModelOptions,
    data: DataOptions,
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
    from detrojan.cli.inputs import load_inputs, load_model_at, load_trigger  # noqa: PLC0415
    from detrojan.cli.outputs import check_writable, emit  # noqa: PLC0415
    from detrojan.cli.surroundings import start  # noqa: PLC0415
    from detrojan.report.report import evaluate_report  # noqa: PLC0415

    _check(asked)
    run, started, begun = start(surroundings), datetime.now(UTC), time.monotonic()
    check_writable(output.json_file, output.html_file)
    free = data.unlabelled or asked["against"] is not None
    inputs = load_inputs(model, data, run, strict=not free)
    network, images = inputs.model, inputs.data
    if images.labels is None and not free:
        raise LabelError(
            f"expected labelled data to evaluate with, got images without labels ({images.source}); "
            "--unlabelled or --against ORIGINAL do without"
        )
    trigger = None
    if asked["trigger_file"] is not None:
        trigger = load_trigger(
            asked["trigger_file"], network.input_shape, place=asked["place"], size=asked["size"]
        )
    target = None if asked["untargeted"] else asked["target"]
    answers: torch.Tensor | None = None
    guessed: tuple[str, ...] = ()
    if asked["against"] is not None:
        reference = load_model_at(asked["against"], model, run)
        answers, guessed = reference.answers(images.images), reference.origin.notes
    measured = measure(network, images, answers, trigger, target)
    report = evaluate_report(
        measured,
        network,
        images,
        run=run,
        seconds=time.monotonic() - begun,
        started=started,
        warnings=(*inputs.warnings, *guessed),
        command=current().command,
        reference=str(asked["against"] or ""),
        trigger=str(asked["trigger_file"] or ""),
    )
    emit(report, output, _pictures(trigger, target, images) if output.html_file is not None else {})
    return 0


def _pictures(trigger: Trigger | None, target: int | None, images: Dataset) -> dict[int, TriggerPictures]:
    """Return the pictures of what was stamped, on images of other labels than the target, by label."""
    from detrojan.report.pictures import trigger_pictures  # noqa: PLC0415
    from detrojan.triggers.aim import Aim  # noqa: PLC0415

    if trigger is None:
        return {}
    shown = images.images
    if images.labels is not None and target is not None:
        shown = shown[Aim(target=target).victims(images.labels)]
    return {-1 if target is None else target: trigger_pictures(trigger, shown)}


def _check(asked: dict[str, Any]) -> None:
    aimed = asked["target"] is not None
    if aimed and asked["untargeted"]:
        raise OptionError("expected --target or --untargeted, got both")
    if asked["trigger_file"] is not None and not (aimed or asked["untargeted"]):
        raise OptionError("expected --target LABEL or --untargeted with --trigger")
    if asked["trigger_file"] is None and (aimed or asked["untargeted"] or asked["place"] or asked["size"]):
        raise OptionError("expected --trigger FILE with --target, --untargeted, --at and --size")


def measure(
    model: Classifier,
    data: Dataset,
    answers: torch.Tensor | None,
    trigger: Trigger | None,
    target: int | None,
) -> Measures:
    """Return what an evaluation measures.

    Args:
        model: the model.
        data: clean images, labelled or not.
        answers: another model's answers to compare with (N,), or None.
        trigger: what is stamped, or None.
        target: the label it leads to; None for an untargeted one.

    Raises:
        LabelError: a target beyond the model's classes.

    """
    from detrojan.metrics.accuracy import clean_accuracy  # noqa: PLC0415
    from detrojan.models.surgery.n_plus_one import backdoored_class  # noqa: PLC0415
    from detrojan.report.report import Measures, measures  # noqa: PLC0415
    from detrojan.triggers.aim import Aim  # noqa: PLC0415

    own = model.answers(data.images)
    truth = data.labels if data.labels is not None else own if answers is None else answers
    counts = {"images": len(data)}
    alarm = backdoored_class(model)
    alarms: float | None = None
    if alarm is not None:
        counts["called backdoored"] = int((own == alarm).sum())
        alarms = float((own == alarm).float().mean())
    success: float | None = None
    caught: float | None = None
    if trigger is not None:
        labels = model.num_classes if alarm is None else alarm
        if target is not None and target >= labels:
            raise LabelError(f"expected a target of 0 to {labels - 1}, got {target}")
        aim = Aim(target=target)
        moved = aim.moved(truth)
        said = model.answers(trigger.stamp(data.images[moved]))
        won = aim.won(said, truth[moved], labels)
        counts["stamped"] = len(said)
        if alarm is not None:
            won &= said != alarm  # an attack that is noticed has not succeeded, whatever it was after
            counts["stamped called backdoored"] = int((said == alarm).sum())
            caught = float((said == alarm).float().mean())
        success = float(won.float().mean())
    measured = measures(
        clean_accuracy=None if data.labels is None else clean_accuracy(model, data),
        agreement=None if answers is None else float((own == answers).float().mean()),
        attack_success={} if success is None or target is None else {target: success},
        stamped={} if target is None else {target: counts.get("stamped", 0)},
        counts=counts,
    )
    more = {"attack_success": success, "caught": caught, "false_alarms": alarms}
    return Measures(**{**dict(measured), **more})
