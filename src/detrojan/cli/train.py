"""`detrojan train`: train a network on data that nobody vouches for."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detrojan.cli import types
from detrojan.cli.options import (
    FILE,
    DataOptions,
    OutputOptions,
    RunOptions,
    data_options,
    format_option,
    run_options,
    set_option,
)
from detrojan.cli.state import current
from detrojan.errors import InputError, OptionError

if TYPE_CHECKING:
    from detrojan.data.dataset import Dataset
    from detrojan.models.classifier import Classifier
    from detrojan.run import Run
    from detrojan.trainers.base import Trained, Trainer
    from detrojan.triggers.base import Trigger

#: isolated samples that are drawn
DRAWN = 36
#: a network that is right about fewer of its training samples than this has hardly learned
LEARNED = 0.5
#: the exit code of a training whose isolation is doubtful
INCONCLUSIVE = 3
#: the files that are written to the folder, or removed from it
WRITES = ("model.safetensors", "train.json", "losses.png", "isolated.npz", "isolated.png")


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
    data: DataOptions,
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
    from detrojan.cli.outputs import (  # noqa: PLC0415 - `--help` shall be fast
        check_folder,
        check_writable,
        emit_values,
    )
    from detrojan.cli.positions import read_positions  # noqa: PLC0415
    from detrojan.cli.settings import method_named  # noqa: PLC0415
    from detrojan.cli.surroundings import kept, start  # noqa: PLC0415
    from detrojan.trainers.base import Trainer  # noqa: PLC0415

    run, begun, started = start(surroundings), time.monotonic(), datetime.now(UTC)
    check_folder(out, writes=WRITES)
    check_writable(html_file)
    if (asked["trigger_file"] is None) != (asked["target"] is None):
        raise OptionError("expected --trigger FILE and --target LABEL together")
    method = method_named("trainers", asked["method"], asked["settings"])
    assert isinstance(method, Trainer)
    train, test = _data(data, asked["test_data"], run)
    poisoned = None if asked["poisoned_file"] is None else read_positions(asked["poisoned_file"], train)
    model = fresh(net, train, test, run)
    trigger = _trigger(model, asked)
    with kept(run, surroundings, train.sha256) as run:
        trained = method.train(model, train, run=run, poisoned=poisoned)
        values = _values(method, trained, train, test, run, net)
        values |= _scores(trained.model, train, test, trigger, asked["target"])
        failed = _failures(values["training_accuracy"], values.get("attack_success"))
        values["warnings"] = [*failed, *trained.warnings]
        values["seconds"] = round(time.monotonic() - begun, 3)
        write_folder(out, trained, train)
        if html_file is not None:
            _page(html_file, values, trained, train, method, run, started, out)
        output = OutputOptions(format_=format_, json_file=out / "train.json", html_file=None)
        emit_values(values, output, _text(values, out))
    return 1 if failed else INCONCLUSIVE if trained.warnings else 0


def _data(options: DataOptions, test: str | None, run: Run) -> tuple[Dataset, Dataset | None]:
    """Return the data to train on, and held-out data where there are some."""
    from detrojan.cli.inputs import load_data  # noqa: PLC0415
    from detrojan.data.splits import training_splits  # noqa: PLC0415

    chosen, held_out = training_splits(options.data or "", options.split)
    train = load_data(replace(options, split=chosen), run)
    train.require_labels("training")
    if test is not None:
        held = load_data(replace(options, split=None, samples=None), run, source=test)
    elif held_out is not None:
        held = load_data(replace(options, split=held_out, samples=None), run)
    else:
        return train, None
    held.require_labels("measuring")
    if held.shape != train.shape:
        raise InputError(f"expected held-out images of shape {train.shape}, got {held.shape}")
    return train, held


def fresh(net: str, train: Dataset, test: Dataset | None, run: Run) -> Classifier:
    """Return an untrained network for the data; equal seeds give equal starts."""
    import torch  # noqa: PLC0415

    from detrojan.models.classifier import Classifier, Origin  # noqa: PLC0415
    from detrojan.models.nets import find_net  # noqa: PLC0415

    highest = max(int(part.require_labels("training").max()) for part in (train, test) if part is not None)
    names = train.class_names if len(train.class_names) > highest else ()
    found = find_net(net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.derived_seed("start"))
        network = found.build(len(names) or highest + 1, train.shape)
    return Classifier(network, train.shape, class_names=names, origin=Origin(net=net))


def _values(
    method: Trainer, trained: Trained, train: Dataset, test: Dataset | None, run: Run, net: str
) -> dict[str, Any]:
    """Return the record of the training."""
    from detrojan.cli.positions import in_source  # noqa: PLC0415
    from detrojan.metrics.accuracy import clean_accuracy  # noqa: PLC0415
    from detrojan.records import plain  # noqa: PLC0415
    from detrojan.report.report import data_facts  # noqa: PLC0415

    learned = clean_accuracy(trained.model, train)
    return {
        "schema": "detrojan.train/1",
        "method": method.name,
        "hyper_parameters": plain(method.hyper_parameters()),
        "net": net,
        "seed": run.seed,
        "data": data_facts(train).model_dump(mode="json"),
        "held_out": 0 if test is None else len(test),
        "clean_accuracy": None if test is None else clean_accuracy(trained.model, test),
        "training_accuracy": learned,
        "isolated": len(trained.isolated),
        "isolated_positions": in_source(train, trained.isolated).tolist(),
        "steps": [plain(vars(step)) for step in trained.steps],
        "command": current().command,
    }


def _failures(learned: float, success: float | None) -> list[str]:
    """Return what to say of a network that did not learn its task, or that has learned the backdoor."""
    from detrojan.judging.outcome import REPAIRED  # noqa: PLC0415
    from detrojan.words import percent  # noqa: PLC0415

    failures = []
    if learned < LEARNED:
        failures.append(
            f"the network is right about {percent(learned)} of its own training samples: it has hardly "
            "learned; try another --set learning_rate, more epochs or another --net"
        )
    if success is not None and success >= REPAIRED:
        failures.append(
            f"the known trigger works on {percent(success)} of the images: this training has not kept the "
            "backdoor out"
        )
    return failures


def _trigger(model: Classifier, asked: dict[str, Any]) -> Trigger | None:
    """Return the known trigger, if one was stated; what is wrong with it shows before the training."""
    from detrojan.cli.inputs import load_trigger  # noqa: PLC0415

    if asked["trigger_file"] is None:
        return None
    if asked["target"] >= model.num_classes:
        raise OptionError(f"expected a target of 0 to {model.num_classes - 1}, got {asked['target']}")
    return load_trigger(asked["trigger_file"], model.input_shape, place=asked["place"])


def _scores(
    model: Classifier, train: Dataset, test: Dataset | None, trigger: Trigger | None, target: int
) -> dict[str, Any]:
    """Return how often a known trigger works, on held-out images or, without any, on those trained on."""
    from detrojan.metrics.accuracy import attack_success  # noqa: PLC0415

    if trigger is None:
        return {}
    data = train if test is None else test
    labels = data.require_labels("measuring an attack")
    return {"attack_success": attack_success(model, trigger, data.images, labels, target)}


def write_folder(out: Path, trained: Trained, data: Dataset) -> None:
    """Write the network, the isolated samples with pictures, and the losses' curves.

    Raises:
        InputError: a file cannot be written.

    """
    import numpy as np  # noqa: PLC0415

    from detrojan.cli.positions import in_source  # noqa: PLC0415
    from detrojan.files import save_bytes  # noqa: PLC0415
    from detrojan.models.writing import save_model  # noqa: PLC0415
    from detrojan.report.figures import lines  # noqa: PLC0415
    from detrojan.report.pictures import contact_sheet  # noqa: PLC0415

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("isolated.npz", "isolated.png"):
            (out / name).unlink(missing_ok=True)
        if len(trained.isolated):
            part = data.select(trained.isolated)
            np.savez_compressed(
                out / "isolated.npz",
                images=(part.images * 255).round().byte().permute(0, 2, 3, 1).numpy(),
                labels=part.require_labels("training").numpy(),
                indices=in_source(data, trained.isolated).numpy(),
            )
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    save_model(trained.model, out / "model.safetensors")
    if len(trained.isolated):
        save_bytes(out / "isolated.png", contact_sheet(data.images[trained.isolated[:DRAWN]], columns=9))
    save_bytes(out / "losses.png", lines(_curves(trained), across="epoch", up="loss"))


def _page(
    file: Path,
    values: dict[str, Any],
    trained: Trained,
    data: Dataset,
    method: Trainer,
    run: Run,
    started: datetime,
    out: Path,
) -> None:
    """Write the page of a training."""
    from detrojan.files import save_text  # noqa: PLC0415
    from detrojan.report.report import data_facts, model_facts, run_facts  # noqa: PLC0415
    from detrojan.report.sentences import record_rows  # noqa: PLC0415
    from detrojan.report.train_page import train_page  # noqa: PLC0415

    how = method.hyper_parameters()
    facts = run_facts(run, [method], started, current().command, hyper_parameters=how)
    record = record_rows(model_facts(trained.model), data_facts(data), facts)
    save_text(file, train_page(values, trained, data, record=record, facts=facts, output=str(out)))


def _curves(trained: Trained) -> dict[str, tuple[list[float], list[float]]]:
    """Return the losses of all steps, one after the other; of clean and poisoned samples where known."""
    joined: dict[str, tuple[list[float], list[float]]] = {}
    done = 0.0
    for step in trained.steps:
        epochs = step.curves["epoch"]
        watched = "clean loss" in step.curves
        for name, series in step.curves.items():
            if name == "epoch" or (watched and name == "training loss"):
                continue
            x, y = joined.setdefault(name, ([], []))
            x += [done + number for number in epochs]
            y += series
        done += len(epochs)
    return joined


def _text(values: dict[str, Any], out: Path) -> str:
    from rich.markup import escape  # noqa: PLC0415

    from detrojan.words import percent  # noqa: PLC0415

    lines = [f"{step['summary'][:1].upper()}{step['summary'][1:]}." for step in values["steps"]]
    if values["clean_accuracy"] is not None:
        lines.append(f"Clean accuracy {percent(values['clean_accuracy'])} on {values['held_out']:,} images.")
    if "attack_success" in values:
        lines.append(f"Attack success {percent(values['attack_success'])}.")
    lines += [f"Warning: {text}" for text in values["warnings"]]
    lines.append(f"Written to {out}")
    return "\n".join(escape(line) for line in lines)
