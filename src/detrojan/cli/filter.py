"""`detrojan filter`: look for poisoned samples in a data set."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
    import torch

    from detrojan.data.dataset import Dataset
    from detrojan.filters.base import Suspects
    from detrojan.models.classifier import Classifier
    from detrojan.run import Run

#: flagged samples that are drawn
DRAWN = 36
#: the files that are written to the folder, or removed from it
WRITES = ("filter.json", "scores.npz", "kept.npz", "flagged.png")


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
@format_option()
@run_options
def command(
    source: str | None, data: DataOptions, out: Path, format_: str, surroundings: RunOptions, **asked: Any
) -> int:
    """Score each sample of labelled DATA, and write which are taken for poisoned.

    The folder then holds filter.json, scores.npz, flagged.png and kept.npz, the data without the
    flagged samples. In scores.npz are scores, flagged, positions (where each sample stands in DATA) and
    indices (the positions of the flagged ones). Exit codes: 0 nothing is flagged, 1 something is, 2
    error, 4 wrong usage. The method spectral always flags a share, so its exit code says nothing.
    """
    from detrojan.cli.inputs import load_data  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.cli.outputs import check_folder, emit_values  # noqa: PLC0415
    from detrojan.cli.positions import in_source, read_positions  # noqa: PLC0415
    from detrojan.cli.settings import method_named  # noqa: PLC0415
    from detrojan.cli.surroundings import kept, start  # noqa: PLC0415
    from detrojan.filters.base import Filter  # noqa: PLC0415

    run, begun = start(surroundings), time.monotonic()
    if (data.data is None) == (source is None):
        raise OptionError("expected the data as DATA or --data, one of the two")
    if asked["model_file"] is None and asked["net"] is None:
        raise OptionError("expected --model FILE or --net NAME: a filter looks at the data through a network")
    check_folder(out, writes=WRITES)
    method = method_named("filters", asked["method"], asked["settings"])
    assert isinstance(method, Filter)
    found = load_data(replace(data, data=data.data or source), run)
    found.require_labels("a filter")
    poisoned = asked["poisoned_file"]
    truth = None if poisoned is None else read_positions(poisoned, found)
    with kept(run, surroundings, found.sha256) as run:
        model = _model(found, asked, run)
        suspects = method.suspect(found, model=model, run=run)
        values: dict[str, Any] = {
            "schema": "detrojan.filter/1",
            "method": method.name,
            "hyper_parameters": method.hyper_parameters(),
            "seed": run.seed,
            "data": {"source": found.source, "sha256": found.sha256, "samples": len(found)},
            "flagged": int(suspects.flagged.sum()),
            "flagged_positions": in_source(found, suspects.positions).tolist(),
            "classes": {str(label): told for label, told in suspects.classes.items()},
            "warnings": list(suspects.warnings),
            "limits": list(method.limits(int(suspects.flagged.sum()))),
            **({} if truth is None else _judged(suspects, truth)),
            "seconds": round(time.monotonic() - begun, 3),
            "command": current().command,
        }
        write_folder(out, found, suspects)
        output = OutputOptions(format_=format_, json_file=out / "filter.json", html_file=None)
        emit_values(values, output, _text(values, out))
    return 1 if values["flagged"] else 0


def _model(data: Dataset, asked: dict[str, Any], run: Run) -> Classifier:
    """Return the stated network, or one trained on the data as they are."""
    from detrojan.cli.inputs import check_shape  # noqa: PLC0415
    from detrojan.learning.fitting import Fitting  # noqa: PLC0415
    from detrojan.learning.fresh import train_net  # noqa: PLC0415
    from detrojan.models.loading import load_model  # noqa: PLC0415

    if asked["model_file"] is not None:
        model = load_model(asked["model_file"], net=asked["net"]).to(run.device)
        check_shape(model, data)
        return model
    highest = int(data.require_labels("a filter").max())
    names = data.class_names if len(data.class_names) > highest else ()
    how = Fitting(epochs=asked["epochs"], batch_size=64, optimizer="adam", learning_rate=2e-3, weight_decay=0)
    classes = len(names) or highest + 1
    return train_net(asked["net"], data, how, classes=classes, names=names, run=run)


def _judged(suspects: Suspects, truth: torch.Tensor) -> dict[str, Any]:
    """Return how right the filter is, where the poisoned samples are known."""
    import torch  # noqa: PLC0415

    from detrojan.metrics.detection import auroc  # noqa: PLC0415

    bad = torch.zeros(len(suspects.flagged), dtype=torch.bool)
    bad[truth] = True
    flagged = suspects.flagged
    return {
        "precision": float(bad[flagged].double().mean()) if bool(flagged.any()) else None,
        "recall": float(flagged[bad].double().mean()),
        "false_alarms": float(flagged[~bad].double().mean()) if bool((~bad).any()) else None,
        "auroc": auroc(suspects.scores[~bad], suspects.scores[bad]) if bool((~bad).any()) else None,
    }


def write_folder(out: Path, data: Dataset, suspects: Suspects) -> None:
    """Write the scores, the samples that are kept, and pictures of the flagged ones.

    Raises:
        InputError: a file cannot be written.

    """
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from detrojan.cli.positions import in_source  # noqa: PLC0415
    from detrojan.files import save_bytes  # noqa: PLC0415
    from detrojan.report.pictures import contact_sheet  # noqa: PLC0415

    keep = data.select(~suspects.flagged)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "flagged.png").unlink(missing_ok=True)
        np.savez_compressed(
            out / "scores.npz",
            scores=suspects.scores.numpy(),
            flagged=suspects.flagged.numpy(),
            indices=in_source(data, suspects.positions).numpy(),
            positions=in_source(data, torch.arange(len(data))).numpy(),
        )
        np.savez_compressed(
            out / "kept.npz",
            images=(keep.images * 255).round().byte().permute(0, 2, 3, 1).numpy(),
            labels=keep.require_labels("a filter").numpy(),
        )
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    if len(suspects.positions):
        save_bytes(out / "flagged.png", contact_sheet(data.images[suspects.positions[:DRAWN]], columns=9))


def _text(values: dict[str, Any], out: Path) -> str:
    from rich.markup import escape  # noqa: PLC0415

    from detrojan.words import percent  # noqa: PLC0415

    total = values["data"]["samples"]
    lines = [f"{values['flagged']:,} of {total:,} samples are taken for poisoned."]
    by_class = [f"{label}: {told['flagged']}" for label, told in values["classes"].items() if told["flagged"]]
    if by_class:
        lines.append(f"By label: {', '.join(by_class)}")
    if "recall" in values:
        lines.append(
            f"Precision {percent(values['precision'])}, recall {percent(values['recall'])}, "
            f"false alarms {percent(values['false_alarms'])}."
        )
    lines += values["limits"]
    lines += [f"Warning: {text}" for text in values["warnings"]]
    lines.append(f"Written to {out}")
    return "\n".join(escape(line) for line in lines)
