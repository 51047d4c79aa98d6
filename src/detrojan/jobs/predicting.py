"""The job of answering: what a model says of images, and what its guard says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from detrojan.data.dataset import Dataset
from detrojan.data.positions import in_source
from detrojan.errors import OptionError
from detrojan.guards.base import Calibrated
from detrojan.jobs.inputs import load_data
from detrojan.jobs.sources import DataSource
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.n_plus_one import BACKDOORED, backdoored_class
from detrojan.report.records.predict import Answer, Answering, PredictRecord, overflow_warnings
from detrojan.run import Run


def check_images(images: Sequence[Path], source: DataSource) -> None:
    """Refuse pictures and --data together, none of both, and pictures with what only data have.

    Raises:
        OptionError: such a choice.

    """
    if bool(images) == (source.data is not None):
        raise OptionError("expected pictures or --data, one of the two")
    given = {"--split": source.split, "--samples": source.samples, "--crop": source.crop or None}
    for name, value in given.items():
        if images and value is not None:
            raise OptionError(f"expected {name} with --data only, got it with pictures")


def read_images(
    images: Sequence[Path], source: DataSource, run: Run, network: Classifier
) -> tuple[Dataset, list[str]]:
    """Return pictures, or the images of the data, each with its name: its file, or its place in the data.

    Args:
        images: picture files, or folders of them.
        source: the data where there are none, and how either is read.
        run: the seed that images are drawn with.
        network: whose size and colours pictures are brought to.

    Raises:
        DataError: they cannot be read, or cannot be brought to the network's shape without a guess.

    """
    if not images:
        data = load_data(source, run, network=network)
        places = in_source(data, torch.arange(len(data))).tolist()
        return data, list(data.files) or [f"{data.source}[{place}]" for place in places]
    data = load_data(replace(source, unlabelled=True), run, path=tuple(images), network=network)
    return data, list(data.files)


def answers(model: Classifier, data: Dataset, names: Sequence[str]) -> list[Answer]:
    """Return the answer to each image, and whether it is "backdoored" where the model knows that class."""
    best = model.probabilities(data.images).max(1)
    alarm = backdoored_class(model)
    return [
        Answer(
            input=name,
            label=label,
            class_name=model.class_name(label),
            probability=_rounded(share),
            **({} if alarm is None else {"backdoored": label == alarm}),
        )
        for name, label, share in zip(names, best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def guarded_answers(
    guard: Calibrated, data: Dataset, names: Sequence[str], scores: torch.Tensor, *, as_class: bool = False
) -> list[Answer]:
    """Return the answer to each image, the guard's statistic and its verdict.

    A number that is not finite is None: the model's answers overflow, and such an input counts as
    backdoored.

    Args:
        guard: calibrated for the model.
        data: the images.
        names: one for each.
        scores: what the guard says of them, (N,).
        as_class: whether a backdoored input is answered with one more class than the model has.

    """
    model = guard.model
    best = model.probabilities(data.images).max(1)
    bad = guard.suspicious(scores).tolist()
    values = (scores * guard.sign).tolist()
    rejected = [number for number, one in enumerate(bad) if one]
    parts = dict(zip(rejected, guard.blamed(data.images[rejected]), strict=True)) if rejected else {}
    rows = []
    for number, name in enumerate(names):
        label = int(best.indices[number])
        named = model.class_name(label)
        if as_class and bad[number]:
            label, named = model.num_classes, BACKDOORED
        measured: dict[str, Any] = {guard.statistic: _rounded(values[number])}
        if parts.get(number):
            measured["part"] = parts[number]
        share = _rounded(float(best.values[number]))
        rows.append(
            Answer(
                input=name,
                label=label,
                class_name=named,
                probability=share,
                backdoored=bad[number],
                **measured,
            )
        )
    return rows


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def predict(
    model: Classifier,
    data: Dataset,
    names: Sequence[str],
    guard: Calibrated | None = None,
    warnings: Sequence[str] = (),
) -> PredictRecord:
    """Return what a model answers, judged by its guard where it has one.

    Args:
        model: the model.
        data: the images.
        names: one for each.
        guard: calibrated for the model, or None.
        warnings: what the reader must know of how the model is fed.

    """
    if guard is None:
        rows = answers(model, data, names)
    else:
        rows = guarded_answers(guard, data, names, guard.score(data.images))
    origin = model.origin
    return PredictRecord(
        model=Answering(path=origin.path, sha256=origin.sha256, net=origin.net),
        predictions=rows,
        skipped=list(data.skipped),
        warnings=[
            *data.warnings,
            *warnings,
            *overflow_warnings(rows, None if guard is None else guard.statistic),
        ],
    )
