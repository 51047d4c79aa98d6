"""`detrojan guard`: judge inputs of a running model; calibrate, check, and measure a guard."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detrojan.cli.guarded import (
    check_images,
    guard_rows,
    overflow_warnings,
    read_images,
)
from detrojan.cli.inputs import check_shape, load_inputs, load_trigger
from detrojan.cli.options import (
    FILE,
    DataOptions,
    ModelOptions,
    OutputOptions,
    RunOptions,
    data_options,
    format_option,
    model_options,
    set_option,
    short_run_options,
)
from detrojan.cli.state import current
from detrojan.errors import DataError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from detrojan.data.dataset import Dataset
    from detrojan.guards.base import Calibrated
    from detrojan.report.guard_page import Measured
    from detrojan.report.pictures import TriggerPictures
    from detrojan.run import Run

_JSON = click.option("--json", "json_file", type=FILE, metavar="FILE", help="Also write the JSON here.")
_FACTORY = click.option(
    "--factory",
    metavar="PACKAGE.MODULE:FUNCTION",
    help="Your own code that makes the network, where it needs some; it is imported and run.",
)
_HTML = click.option("--html", "html_file", type=FILE, metavar="FILE", help="Also write a page here.")
_FIGURES = click.option("--figures", type=FILE, metavar="DIR", help="Also write pictures (PNG) here.")

#: the pictures that are written there
FIGURES = ("scores.png", "labels.png")


@click.group(
    "guard",
    short_help="Judge the inputs of a running model.",
    epilog="\b\nExample:\n"
    "  detrojan guard calibrate model.safetensors --data clean.npz --frr 0.01 --out guard\n"
    "  detrojan guard check guard camera.png",
)
def command() -> None:
    """Tell backdoored inputs from clean ones while a model is in use."""


@command.command(
    "calibrate",
    short_help="Set a guard up on clean inputs.",
    epilog="\b\nExample:\n"
    "  detrojan guard calibrate model.h5 --net deepid --data faces.npz --frr 0.01 --out guard",
)
@model_options
@data_options(samples="  [default: all]")
@click.option("--method", default="strip", show_default=True, metavar="NAME", help="The guard.")
@click.option(
    "--frr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of clean inputs that may be called backdoored.  [default: 0.01]",
)
@set_option("guard")
@click.option("--out", type=FILE, required=True, metavar="DIR", help="The folder that is written.")
@format_option()
@_HTML
@short_run_options
def calibrate(
    model: ModelOptions,
    data: DataOptions,
    out: Path,
    format_: str,
    html_file: Path | None,
    surroundings: RunOptions,
    **how: Any,
) -> int:
    """Set up a guard for MODEL on the clean images of --data, and write it to a folder.

    The folder holds the guard and a copy of the model, so that it can be used by itself. It also holds
    scores.png, the distribution of the clean inputs' scores with the boundary.
    """
    from detrojan.cli.outputs import (  # noqa: PLC0415 - `--help` shall be fast
        check_folder,
        check_writable,
        emit_values,
    )
    from detrojan.cli.settings import method_named  # noqa: PLC0415
    from detrojan.cli.surroundings import start  # noqa: PLC0415
    from detrojan.files import save_bytes  # noqa: PLC0415
    from detrojan.guards.base import Guard  # noqa: PLC0415
    from detrojan.guards.bundle import bundle_files, check_bundle, save_bundle  # noqa: PLC0415
    from detrojan.report.figures import histogram  # noqa: PLC0415

    check_folder(out, writes=bundle_files())
    check_bundle(out)
    check_writable(html_file)
    run, started = start(surroundings), datetime.now(UTC)
    settings = [*how["settings"], *([] if how["frr"] is None else [f"frr={how['frr']}"])]
    method = method_named("guards", how["method"], settings)
    assert isinstance(method, Guard)
    inputs = load_inputs(model, data, run)
    guard = method.calibrate(inputs.model, inputs.data, run=run)
    save_bundle(guard, out)
    save_bytes(
        out / "scores.png",
        histogram(
            {"clean": guard.clean_scores * guard.sign},
            axis=guard.statistic,
            limit=guard.threshold * guard.sign,
        ),
    )
    values = _calibrated(guard, inputs.warnings, out)
    if html_file is not None:
        shown = {"clean": guard.clean_scores}
        _page(html_file, guard, shown, inputs.data, run, started, warnings=values["warnings"])
    output = OutputOptions(format_=format_, json_file=None, html_file=None)
    emit_values(values, output, _calibrated_text(values))
    return 0


@command.command(
    "check",
    short_help="Judge inputs.",
    epilog="\b\nExample:\n  detrojan guard check guard camera.png --as-class",
)
@click.argument("guard", type=FILE)
@click.argument("images", nargs=-1, type=FILE)
@data_options(required=False, what="Images")
@click.option("--as-class", is_flag=True, help='Answer one more class, "backdoored", for such inputs.')
@_FIGURES
@_FACTORY
@format_option()
@_JSON
@short_run_options
def check(
    guard: Path,
    images: tuple[Path, ...],
    data: DataOptions,
    format_: str,
    json_file: Path | None,
    surroundings: RunOptions,
    **asked: Any,
) -> int:
    """Judge each of IMAGES, or of --data, by the GUARD that `guard calibrate` wrote.

    IMAGES are pictures, or folders of them.

    Exit codes: 0 no input is suspicious, 1 at least one is, 2 error, 4 wrong usage.
    """
    from detrojan.cli.outputs import check_folder, check_writable, emit_values  # noqa: PLC0415
    from detrojan.cli.surroundings import start  # noqa: PLC0415
    from detrojan.guards.bundle import load_bundle  # noqa: PLC0415

    check_images(images, data)
    run = start(surroundings)
    check_writable(json_file)
    check_folder(asked["figures"], writes=FIGURES)
    guarded = load_bundle(guard, device=run.device, factory=asked["factory"])
    found, names = read_images(images, data, run)
    check_shape(guarded.model, found)
    scores = guarded.score(found.images)
    rows = guard_rows(guarded, found, names, scores, as_class=asked["as_class"])
    if asked["figures"] is not None:
        _draw(guarded, {"clean (calibration)": guarded.clean_scores, "checked": scores}, asked["figures"])
        _draw_labels(guarded, found, scores, asked["figures"])
    caught = sum(row["backdoored"] for row in rows)
    values = {
        "schema": "detrojan.guard-check/1",
        "guard": guarded.method.name,
        "statistic": guarded.statistic,
        "boundary": guarded.threshold * guarded.sign,
        "inputs": len(rows),
        "backdoored": caught,
        "predictions": rows,
        "warnings": overflow_warnings(rows, guarded.statistic),
    }
    output = OutputOptions(format_=format_, json_file=json_file, html_file=None)
    emit_values(values, output, _checked_text(values))
    return 1 if caught else 0


@command.command(
    "measure",
    short_help="Measure a guard with a known trigger.",
    epilog="\b\nExample:\n"
    "  detrojan guard measure guard --data test.npz --trigger attacked/trigger_0.safetensors --target 3",
)
@click.argument("guard", type=FILE)
@data_options()
@click.option("--trigger", "trigger_file", type=FILE, required=True, metavar="FILE", help="What is stamped.")
@click.option("--at", "place", help="Where a picture's upper left corner goes, as TOP,LEFT.")
@click.option(
    "--target", type=click.IntRange(min=0), metavar="LABEL", help="Images of this label are not stamped."
)
@_FIGURES
@_FACTORY
@format_option()
@_JSON
@_HTML
@short_run_options
def measure(
    guard: Path,
    data: DataOptions,
    trigger_file: Path,
    format_: str,
    json_file: Path | None,
    html_file: Path | None,
    surroundings: RunOptions,
    **asked: Any,
) -> int:
    """Measure a GUARD on clean --data and on the same images with a known trigger.

    It reports the FRR (the share of clean images that it calls backdoored), the FAR (the share of
    stamped ones that it lets through) and the AUROC over all boundaries. With --target it also reports
    the attack's success without the guard and with it. Take other images than it was set up with: on
    those the FRR is simply the one asked for.
    """
    from detrojan.cli.guard_measured import (  # noqa: PLC0415
        measured_text,
        measured_values,
        overflows,
        seen_before,
    )
    from detrojan.cli.inputs import load_data, with_usable_labels  # noqa: PLC0415
    from detrojan.cli.outputs import check_folder, check_writable, emit_values  # noqa: PLC0415
    from detrojan.cli.surroundings import start  # noqa: PLC0415
    from detrojan.cli.types import PLACE  # noqa: PLC0415
    from detrojan.guards.bundle import load_bundle  # noqa: PLC0415
    from detrojan.report.pictures import trigger_pictures  # noqa: PLC0415
    from detrojan.triggers.aim import Aim  # noqa: PLC0415

    run, started = start(surroundings), datetime.now(UTC)
    check_writable(json_file, html_file)
    check_folder(asked["figures"], writes=FIGURES)
    guarded = load_bundle(guard, device=run.device, factory=asked["factory"])
    found = load_data(data, run)
    check_shape(guarded.model, found)
    found, warnings = with_usable_labels(guarded.model, found)
    target = asked["target"]
    if target is not None and target >= guarded.model.num_classes:
        raise OptionError(f"expected a target of 0 to {guarded.model.num_classes - 1}, got {target}")
    place = None if asked["place"] is None else PLACE.convert(asked["place"], None, None)
    trigger = load_trigger(trigger_file, guarded.model.input_shape, place=place)
    truth = guarded.model.answers(found.images) if found.labels is None else found.labels
    moved = found.images[Aim(target=target).moved(truth)]
    stamped = trigger.stamp(moved)
    clean, bad = guarded.score(found.images), guarded.score(stamped)
    scores = {"clean": clean, "stamped": bad}
    warnings += [*seen_before(guarded, found.images), *overflows(guarded, scores)]
    values, measured = measured_values(guarded, scores, stamped, target)
    values["warnings"] = warnings
    if asked["figures"] is not None:
        _draw(guarded, scores, asked["figures"])
        _draw_labels(guarded, _both(found.images, stamped), None, asked["figures"])
    if html_file is not None:
        _page(
            html_file, guarded, scores, found, run, started,
            warnings=warnings, measured=measured, pictures=trigger_pictures(trigger, moved),
        )  # fmt: skip
    output = OutputOptions(format_=format_, json_file=json_file, html_file=None)
    emit_values(values, output, measured_text(values))
    return 0


def _page(
    file: Path,
    guard: Calibrated,
    scores: dict[str, torch.Tensor],
    data: Dataset,
    run: Run,
    started: datetime,
    *,
    warnings: Sequence[str] = (),
    measured: Measured | None = None,
    pictures: TriggerPictures | None = None,
) -> None:
    """Write the page of a guard."""
    from detrojan.files import save_text  # noqa: PLC0415
    from detrojan.report.guard_page import guard_page  # noqa: PLC0415
    from detrojan.report.report import data_facts, model_facts, run_facts  # noqa: PLC0415
    from detrojan.report.sentences import record_rows  # noqa: PLC0415

    how = guard.method.hyper_parameters()
    facts = run_facts(run, [guard.method], started, current().command, hyper_parameters=how)
    record = record_rows(model_facts(guard.model), data_facts(data), facts)
    page = guard_page(
        guard, scores, record=record, facts=facts, warnings=warnings, measured=measured, pictures=pictures
    )
    save_text(file, page)


def _both(clean: torch.Tensor, stamped: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"clean": clean[:1], "stamped": stamped[:1]}


def _draw(guard: Calibrated, scores: dict[str, torch.Tensor], folder: Path) -> None:
    from detrojan.files import save_bytes  # noqa: PLC0415
    from detrojan.report.figures import histogram  # noqa: PLC0415

    groups = {name: values[values.isfinite()] * guard.sign for name, values in scores.items()}
    content = histogram(groups, axis=guard.statistic, limit=guard.threshold * guard.sign)
    save_bytes(folder / "scores.png", content)


def _draw_labels(
    guard: Calibrated,
    data: Dataset | dict[str, torch.Tensor],
    scores: torch.Tensor | None,
    folder: Path,
) -> None:
    """Draw how the copies of two inputs are answered: by default the most and the least suspicious."""
    from detrojan.files import save_bytes  # noqa: PLC0415
    from detrojan.guards.strip import CalibratedStrip  # noqa: PLC0415
    from detrojan.report.figures import bars  # noqa: PLC0415

    if not isinstance(guard, CalibratedStrip):
        return
    if isinstance(data, dict):
        chosen = data
    else:
        assert scores is not None
        ranked = scores.where(scores.isfinite(), math.inf)
        most, least = int(ranked.argmax()), int(ranked.argmin())
        chosen = {"most suspicious": data.images[most][None], "least suspicious": data.images[least][None]}
    classes = guard.model.num_classes
    groups = {}
    for name, images in chosen.items():
        if not len(images):
            raise DataError(f"expected {name} images to draw, got none")
        counts = guard.labels(images).flatten().bincount(minlength=classes)
        groups[name] = (counts / counts.sum()).tolist()
    names = [guard.model.class_name(label) for label in range(classes)]
    save_bytes(folder / "labels.png", bars(groups, names, axis="answers to the copies of one input"))


def _calibrated(guard: Calibrated, warnings: tuple[str, ...], out: Path) -> dict[str, Any]:
    return {
        "schema": "detrojan.guard-calibrate/1",
        "guard": guard.method.name,
        "hyper_parameters": guard.method.hyper_parameters(),
        "statistic": guard.statistic,
        "boundary": guard.threshold * guard.sign,
        "inputs": len(guard.clean_scores),
        "called_backdoored": int(guard.suspicious(guard.clean_scores).sum()),
        **guard.state()[1],
        "warnings": [*warnings, *guard.warnings],
        "out": str(out),
    }


def _calibrated_text(values: dict[str, Any]) -> str:
    from rich.markup import escape  # noqa: PLC0415

    side = "at or below" if values["statistic"] == "entropy" else "at or beyond"
    called = f"{values['called_backdoored']} of {values['inputs']:,} clean ones"
    limit = f"{side} {values['boundary']:.4g}"
    lines = [
        f"An input is called backdoored where its {values['statistic']} is {limit}: {called}.",
        *(f"Warning: {text}" for text in values["warnings"]),
        f"Written to {values['out']}",
    ]
    return "\n".join(escape(line) for line in lines)


def _checked_text(values: dict[str, Any]) -> Any:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from detrojan.cli.guarded import guard_table  # noqa: PLC0415

    said = f"{values['backdoored']} of {values['inputs']:,} inputs are called backdoored"
    boundary = f" (boundary: {values['statistic']} {values['boundary']:.4g})"
    return Group(guard_table(values["predictions"], values["statistic"]), Text(said + boundary))
