"""The job of a filter: which samples of a data set are taken for poisoned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detrojan.data.dataset import Dataset
from detrojan.data.positions import in_source
from detrojan.errors import InputError
from detrojan.files import save_bytes
from detrojan.filters.base import Filter, Suspects
from detrojan.learning.fitting import Fitting
from detrojan.learning.fresh import train_net
from detrojan.metrics.detection import auroc
from detrojan.models.classifier import Classifier
from detrojan.report.pictures import contact_sheet
from detrojan.report.records.filter import Filtered, FilterRecord
from detrojan.run import Run

#: flagged samples that are drawn
DRAWN = 36
#: the files that are written to the folder, or removed from it
WRITES = ("filter.json", "scores.npz", "kept.npz", "flagged.png")


def trained_on(data: Dataset, net: str, *, epochs: int, run: Run) -> Classifier:
    """Return a network that is trained on the data as they are, for a filter to look through.

    Args:
        data: labelled.
        net: the network's name.
        epochs: of the training.
        run: device, seed, progress, checkpoint.

    """
    highest = int(data.require_labels("a filter").max())
    names = data.class_names if len(data.class_names) > highest else ()
    how = Fitting(epochs=epochs, batch_size=64, optimizer="adam", learning_rate=2e-3, weight_decay=0)
    return train_net(net, data, how, classes=len(names) or highest + 1, names=names, run=run)


def filter_record(
    method: Filter,
    data: Dataset,
    suspects: Suspects,
    *,
    run: Run,
    begun: float,
    truth: torch.Tensor | None = None,
    command: Sequence[str] | None = None,
) -> FilterRecord:
    """Return what a filter found, and how right it is where that is known.

    Args:
        method: the filter.
        data: what it looked at.
        suspects: what it found.
        run: the seed.
        begun: when the job began, by the monotonic clock.
        truth: positions of the samples that are poisoned, (P,), or None.
        command: the words that asked for it.

    """
    flagged, seconds = int(suspects.flagged.sum()), round(time.monotonic() - begun, 3)
    started = datetime.now(UTC) - timedelta(seconds=seconds)
    return FilterRecord(
        method=method.name,
        hyper_parameters=method.hyper_parameters(),
        seed=run.seed,
        data=Filtered(source=data.source, sha256=data.sha256, samples=len(data)),
        flagged=flagged,
        flagged_positions=in_source(data, suspects.positions).tolist(),
        classes={str(label): told for label, told in suspects.classes.items()},
        warnings=list(suspects.warnings),
        limits=list(method.limits(flagged)),
        **({} if truth is None else _judged(suspects, truth)),
        started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=seconds,
        command=None if command is None else list(command),
    )


def _judged(suspects: Suspects, truth: torch.Tensor) -> dict[str, Any]:
    """Return how right the filter is, where the poisoned samples are known."""
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
