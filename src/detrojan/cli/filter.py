"""`detrojan filter`: look for poisoned samples in a data set."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from detrojan.console.options import (
    FILE,
    OutputOptions,
    RunOptions,
    data_options,
    output_options,
    run_options,
    set_option,
)
from detrojan.console.state import current
from detrojan.errors import OptionError
from detrojan.jobs.sources import DataSource


@click.command(
    "filter",
    short_help="Look for poisoned samples in a data set.",
    epilog="\b\nExamples:\n"
    "  detrojan filter bought.npz --net badnets_cnn --method activation_clustering --out filtered\n"
    "  detrojan filter bought.npz --model trained.safetensors --method spectral --set poison_rate=0.05 \\\n"
    "      --out filtered",
)
@click.argument("source", metavar="[DATA]", required=False)
@data_options(required=False, what="Labelled images, instead of DATA")
@click.option(
    "--model",
    "model_file",
    type=FILE,
    metavar="FILE",
    help="A network that was trained on these very data.  [default: train one]",
)
@click.option("--net", metavar="NAME", help="The network to train, or the one that FILE's weights belong to.")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    default=10,
    show_default=True,
    help="Epochs of that training.",
)
@click.option(
    "--method", default="activation_clustering", show_default=True, metavar="NAME", help="The filter."
)
@set_option("filter")
@click.option(
    "--poisoned",
    "poisoned_file",
    type=FILE,
    metavar="NPZ",
    help="The array `indices` in it tells which samples are poisoned: for scoring only.",
)
@click.option("--out", type=FILE, required=True, metavar="DIR", help="The folder that is written.")
@output_options("filter")
@run_options
def command(
    source: str | None,
    data: DataSource,
    out: Path,
    output: OutputOptions,
    surroundings: RunOptions,
    **asked: Any,
) -> int:
    """Score each sample of labelled DATA, and write which are taken for poisoned.

    The folder then holds filter.json, scores.npz, flagged.png and kept.npz, the data without the
    flagged samples. In scores.npz are scores, flagged, positions (where each sample stands in DATA) and
    indices (the positions of the flagged ones). Exit codes: 0 nothing is flagged, 1 something is, 2
    error, 4 wrong usage. The method spectral always flags a share, so its exit code says nothing.
    """
    from detrojan.console.outputs import check_folder, check_writable, emit_values, write_files  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import kept, start  # noqa: PLC0415
    from detrojan.data.positions import read_positions  # noqa: PLC0415
    from detrojan.filters.base import Filter  # noqa: PLC0415
    from detrojan.jobs.filtering import WRITES, filter_record, trained_on, write_folder  # noqa: PLC0415
    from detrojan.jobs.inputs import load_data  # noqa: PLC0415
    from detrojan.jobs.settings import method_named  # noqa: PLC0415
    from detrojan.models.loading import load_model  # noqa: PLC0415
    from detrojan.report.records.filter import filter_text  # noqa: PLC0415

    run, begun = start(surroundings), time.monotonic()
    if (data.data is None) == (source is None):
        raise OptionError("expected the data as DATA or --data, one of the two")
    if asked["model_file"] is None and asked["net"] is None:
        raise OptionError("expected --model FILE or --net NAME: a filter looks at the data through a network")
    check_folder(out, writes=WRITES)
    check_writable(*output.files.values())
    method = method_named("filters", asked["method"], asked["settings"])
    assert isinstance(method, Filter)
    model_file, net = asked["model_file"], asked["net"]
    network = None if model_file is None else load_model(model_file, net=net).to(run.device)
    found = load_data(replace(data, data=data.data or source), run, network=network)
    found.require_labels("a filter")
    poisoned = asked["poisoned_file"]
    truth = None if poisoned is None else read_positions(poisoned, found)
    with kept(run, surroundings, found.sha256) as run:
        model = network or trained_on(found, net, epochs=asked["epochs"], run=run)
        suspects = method.suspect(found, model=model, run=run)
        record = filter_record(
            method, found, suspects, run=run, begun=begun, truth=truth, command=current().command
        )
        write_folder(out, found, suspects)
        write_files(record, output)
        shown = OutputOptions(format_=output.format_, files={"json": out / "filter.json"})
        emit_values(record.values(), shown, filter_text(record, str(out)))
    return 1 if record.flagged else 0
