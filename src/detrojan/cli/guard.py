"""`detrojan guard`: judge inputs of a running model; calibrate, check, and measure a guard."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from detrojan.console import types
from detrojan.console.options import (
    FILE,
    OutputOptions,
    RunOptions,
    data_options,
    format_option,
    model_options,
    set_option,
    short_run_options,
)
from detrojan.console.state import current
from detrojan.jobs.sources import DataSource, ModelSource

_JSON = click.option("--json", "json_file", type=FILE, metavar="FILE", help="Also write the JSON here.")
_FACTORY = click.option(
    "--factory",
    metavar="PACKAGE.MODULE:FUNCTION",
    help="Your own code that makes the network, where it needs some; it is imported and run.",
)
_URL = click.option(
    "--url", metavar="URL", help="The server of the guard's model, where it was set up with one."
)
_HTML = click.option("--html", "html_file", type=FILE, metavar="FILE", help="Also write a page here.")
_FIGURES = click.option("--figures", type=FILE, metavar="DIR", help="Also write pictures (PNG) here.")


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
@click.option("--method", default="auto", show_default=True, metavar="NAME", help="The guard.")
@click.option(
    "--frr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of clean inputs that may be called backdoored.  [default: 0.01]",
)
@set_option("guard")
@click.option(
    "--findings",
    "findings_file",
    type=FILE,
    metavar="FILE",
    help="A scan's JSON: its triggers sharpen the guard auto; it says how many images with them pass.",
)
@click.option("--out", type=FILE, required=True, metavar="DIR", help="The folder that is written.")
@format_option()
@_HTML
@short_run_options
def calibrate(
    model: ModelSource,
    data: DataSource,
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
    from detrojan.console.outputs import check_folder, check_writable, emit_values  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import start  # noqa: PLC0415
    from detrojan.guards.base import Guard  # noqa: PLC0415
    from detrojan.guards.bundle import bundle_files, check_bundle  # noqa: PLC0415
    from detrojan.jobs.findings import read_findings  # noqa: PLC0415
    from detrojan.jobs.guarding import write_guard, write_page  # noqa: PLC0415
    from detrojan.jobs.inputs import load_inputs  # noqa: PLC0415
    from detrojan.jobs.passing import calibrated, passing  # noqa: PLC0415
    from detrojan.jobs.settings import method_named  # noqa: PLC0415
    from detrojan.report.records.guard import calibrate_text  # noqa: PLC0415

    check_folder(out, writes=bundle_files(model.model))
    check_bundle(out, model.model)
    check_writable(html_file)
    run, started = start(surroundings), datetime.now(UTC)
    settings = [*how["settings"], *([] if how["frr"] is None else [f"frr={how['frr']}"])]
    method = method_named("guards", how["method"], settings)
    assert isinstance(method, Guard)
    inputs = load_inputs(model, data, run, check="refuse")
    file = how["findings_file"]
    given = None if file is None else read_findings(file, inputs.model, None)
    guard = calibrated(method, inputs.model, inputs.data, given, run=run)
    found = None if given is None else passing(guard, inputs.data, given, run=run)
    record = write_guard(guard, out, [*inputs.warnings, *(given.warnings if given else ())], found)
    if html_file is not None:
        write_page(
            html_file, guard, {"clean": guard.clean_scores}, inputs.data,
            run=run, started=started, command=current().command, warnings=record.warnings,
        )  # fmt: skip
    output = OutputOptions(format_=format_)
    emit_values(record.values(), output, calibrate_text(record))
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
@_URL
@format_option()
@_JSON
@short_run_options
def check(
    guard: Path,
    images: tuple[Path, ...],
    data: DataSource,
    format_: str,
    json_file: Path | None,
    surroundings: RunOptions,
    **asked: Any,
) -> int:
    """Judge each of IMAGES, or of --data, by the GUARD that `guard calibrate` wrote.

    IMAGES are pictures, or folders of them.

    Exit codes: 0 no input is suspicious, 1 at least one is, 2 error, 4 wrong usage.
    """
    from detrojan.console.outputs import check_folder, check_writable, emit_values  # noqa: PLC0415
    from detrojan.console.surroundings import start  # noqa: PLC0415
    from detrojan.guards.bundle import load_bundle  # noqa: PLC0415
    from detrojan.jobs import guarding  # noqa: PLC0415
    from detrojan.jobs.predicting import check_images, read_images  # noqa: PLC0415
    from detrojan.report.records.guard import check_text  # noqa: PLC0415

    check_images(images, data)
    run, figures = start(surroundings), asked["figures"]
    check_writable(json_file)
    check_folder(figures, writes=guarding.FIGURES)
    guarded = load_bundle(guard, device=run.device, factory=asked["factory"], url=asked["url"])
    found, names = read_images(images, data, run, guarded.model)
    record, scores = guarding.check(guarded, found, names, as_class=asked["as_class"])
    if figures is not None:
        groups = {"clean (calibration)": guarded.clean_scores, "checked": scores}
        guarding.draw_scores(guarded, groups, figures)
        guarding.draw_labels(guarded, guarding.extremes(found, scores), figures)
    output = OutputOptions(format_=format_, files={"json": json_file})
    emit_values(record.values(), output, check_text(record))
    return 1 if record.backdoored else 0


@command.command(
    "explain",
    short_help="Show where the trigger sits.",
    epilog="\b\nExample:\n  detrojan guard explain guard rejected/ --figures explained",
)
@click.argument("guard", type=FILE)
@click.argument("images", nargs=-1, type=FILE)
@data_options(required=False, what="Images")
@click.option("--clean", metavar="PATH", help="Clean images, where the guard holds none.")
@_FIGURES
@_FACTORY
@_URL
@format_option()
@_JSON
@short_run_options
def explain(
    guard: Path,
    images: tuple[Path, ...],
    data: DataSource,
    format_: str,
    json_file: Path | None,
    surroundings: RunOptions,
    **asked: Any,
) -> int:
    """Show where in each input that the GUARD turns away the trigger sits.

    IMAGES are pictures, or folders of them, such as the one of `detrojan serve --keep`. The region is looked
    for whose replacement brings another answer, and which carries the answer into other clean images. It
    takes some thousand answers of the model for each input.

    Exit codes: 0 no input is suspicious, 1 at least one is, 2 error, 4 wrong usage.
    """
    from detrojan.console.outputs import check_folder, check_writable, emit_values  # noqa: PLC0415
    from detrojan.console.surroundings import start  # noqa: PLC0415
    from detrojan.guards.bundle import load_bundle  # noqa: PLC0415
    from detrojan.jobs.explaining import clean_of, explain_all  # noqa: PLC0415
    from detrojan.jobs.predicting import check_images, read_images  # noqa: PLC0415
    from detrojan.report.records.explain import explain_text  # noqa: PLC0415

    check_images(images, data)
    run, figures = start(surroundings), asked["figures"]
    check_writable(json_file)
    check_folder(figures)
    guarded = load_bundle(guard, device=run.device, factory=asked["factory"], url=asked["url"])
    others = clean_of(guarded, asked["clean"], data, run)
    found, names = read_images(images, data, run, guarded.model)
    record = explain_all(guarded, found, names, run=run, others=others, folder=figures)
    emit_values(
        record.values(), OutputOptions(format_=format_, files={"json": json_file}), explain_text(record)
    )
    return 1 if record.backdoored else 0


@command.command(
    "measure",
    short_help="Measure a guard with a known trigger.",
    epilog="\b\nExample:\n"
    "  detrojan guard measure guard --data test.npz --trigger attacked/trigger_0.safetensors --target 3",
)
@click.argument("guard", type=FILE)
@data_options()
@click.option("--trigger", "trigger_file", type=FILE, required=True, metavar="FILE", help="What is stamped.")
@click.option(
    "--at", "place", type=types.PLACE, help="Where a picture's upper left corner goes, as TOP,LEFT."
)
@click.option(
    "--target", type=click.IntRange(min=0), metavar="LABEL", help="Images of this label are not stamped."
)
@_FIGURES
@_FACTORY
@_URL
@format_option()
@_JSON
@_HTML
@short_run_options
def measure(
    guard: Path,
    data: DataSource,
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
    from detrojan.console.outputs import check_folder, check_writable, emit_values  # noqa: PLC0415
    from detrojan.console.surroundings import start  # noqa: PLC0415
    from detrojan.guards.bundle import load_bundle  # noqa: PLC0415
    from detrojan.jobs import guarding  # noqa: PLC0415
    from detrojan.jobs.inputs import load_data  # noqa: PLC0415
    from detrojan.report.records.guard import measure_text  # noqa: PLC0415

    run, started, figures = start(surroundings), datetime.now(UTC), asked["figures"]
    check_writable(json_file, html_file)
    check_folder(figures, writes=guarding.FIGURES)
    guarded = load_bundle(guard, device=run.device, factory=asked["factory"], url=asked["url"])
    found = guarding.measure(
        guarded,
        load_data(data, run, network=guarded.model),
        trigger_file,
        place=asked["place"],
        target=asked["target"],
    )
    if figures is not None:
        guarding.draw_scores(guarded, found.scores, figures)
        pair = {"clean": found.data.images[:1], "stamped": found.stamped[:1]}
        guarding.draw_labels(guarded, pair, figures)
    if html_file is not None:
        guarding.write_page(
            html_file, guarded, found.scores, found.data, run=run, started=started,
            command=current().command, warnings=found.record.warnings,
            measured=found.measured, pictures=found.pictures,
        )  # fmt: skip
    output = OutputOptions(format_=format_, files={"json": json_file})
    emit_values(found.record.values(), output, measure_text(found.record))
    return 0
