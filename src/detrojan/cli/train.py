"""`detrojan train`: train a network on data that nobody vouches for."""

from __future__ import annotations

import time
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
    run_options,
    set_option,
)
from detrojan.console.state import current
from detrojan.errors import OptionError
from detrojan.jobs.sources import DataSource

#: the exit code of a training whose isolation is doubtful
INCONCLUSIVE = 3


@click.command(
    "train",
    short_help="Train on data that nobody vouches for.",
    epilog="\b\nExamples:\n"
    "  detrojan train --data bought.npz --net wrn_16_1 --method abl --out trained\n"
    "  detrojan train --data attacked/poisoned.npz --net badnets_cnn --method abl --out trained \\\n"
    "      --poisoned attacked/poisoned.npz --trigger attacked/trigger_0.safetensors --target 2",
)
@data_options(samples="  [default: all]", what="Labelled images, poisoned or not")
@click.option("--net", required=True, metavar="NAME", help="The network (see: detrojan list nets).")
@click.option("--method", default="abl", show_default=True, metavar="NAME", help="How it is trained.")
@set_option("trainer")
@click.option(
    "--test", "test_data", metavar="PATH", help="Held-out clean data.  [default: test split, or none]"
)
@click.option(
    "--poisoned",
    "poisoned_file",
    type=FILE,
    metavar="NPZ",
    help="The array `indices` in it tells which samples are poisoned: for scoring only.",
)
@click.option(
    "--trigger", "trigger_file", type=FILE, metavar="FILE", help="A known trigger: for scoring only."
)
@click.option("--at", "place", type=types.PLACE, help="Where a picture's upper left corner goes.")
@click.option("--target", type=click.IntRange(min=0), metavar="LABEL", help="The label the trigger leads to.")
@click.option("--out", type=FILE, required=True, metavar="DIR", help="The folder that is written.")
@format_option()
@click.option("--html", "html_file", type=FILE, metavar="FILE", help="Also write a page here.")
@run_options
def command(
    data: DataSource,
    net: str,
    out: Path,
    format_: str,
    html_file: Path | None,
    surroundings: RunOptions,
    **asked: Any,
) -> int:
    """Train a network on --data, which may be poisoned, so that it learns no backdoor from them.

    The folder then holds model.safetensors, train.json with losses.png, and what was isolated as
    isolated.npz and isolated.png. Exit codes: 0 done, 1 the network has hardly learned, or a known
    --trigger works on 5% of the images or more, 2 error, 3 what was isolated is doubtful, 4 wrong usage.
    """
    from detrojan.console.outputs import check_folder, check_writable, emit_values  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import kept, start  # noqa: PLC0415
    from detrojan.data.positions import read_positions  # noqa: PLC0415
    from detrojan.jobs import training  # noqa: PLC0415
    from detrojan.jobs.inputs import training_data  # noqa: PLC0415
    from detrojan.jobs.settings import method_named  # noqa: PLC0415
    from detrojan.report.records.train import train_text  # noqa: PLC0415
    from detrojan.trainers.base import Trainer  # noqa: PLC0415

    run, begun, started = start(surroundings), time.monotonic(), datetime.now(UTC)
    check_folder(out, writes=training.WRITES)
    check_writable(html_file)
    if (asked["trigger_file"] is None) != (asked["target"] is None):
        raise OptionError("expected --trigger FILE and --target LABEL together")
    method = method_named("trainers", asked["method"], asked["settings"])
    assert isinstance(method, Trainer)
    train, test = training_data(data, asked["test_data"], run, purpose="training", measuring="measuring")
    poisoned = None if asked["poisoned_file"] is None else read_positions(asked["poisoned_file"], train)
    model = training.fresh(net, train, test, run)
    known = training.known_trigger(model, asked["trigger_file"], asked["target"], asked["place"])
    job = training.Job(
        method=method, net=net, train=train, test=test, known=known, begun=begun, started=started,
        command=current().command,
    )  # fmt: skip
    with kept(run, surroundings, train.sha256) as run:
        trained = method.train(model, train, run=run, poisoned=poisoned)
        record = job.record(trained, run)
        training.write_folder(out, trained, train)
        if html_file is not None:
            job.write_page(html_file, record, trained, run, out)
        output = OutputOptions(format_=format_, files={"json": out / "train.json"})
        emit_values(record.values(), output, train_text(record, str(out)))
    if training.failures(record.training_accuracy or 0, record.attack_success):
        return 1
    return INCONCLUSIVE if trained.warnings else 0
