"""The jobs of a guard: set it up, judge inputs, measure it, and draw what came out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.files import save_bytes, save_text
from detrojan.guards.base import Calibrated
from detrojan.guards.bundle import save_bundle
from detrojan.guards.strip import CalibratedStrip
from detrojan.jobs.feeding import feeding_warnings
from detrojan.jobs.inputs import check_shape
from detrojan.jobs.labelling import with_usable_labels
from detrojan.jobs.predicting import guarded_answers
from detrojan.jobs.triggers import load_trigger
from detrojan.metrics.detection import detection
from detrojan.report.figures import bars, histogram
from detrojan.report.guard_page import Measured, guard_page
from detrojan.report.pictures import TriggerPictures, trigger_pictures
from detrojan.report.records.guard import CalibrateRecord, CheckRecord, FoundTrigger, MeasureRecord
from detrojan.report.records.predict import overflow_warnings
from detrojan.report.report import data_facts, model_facts, run_facts
from detrojan.report.sentences import record_rows
from detrojan.run import Run
from detrojan.triggers.aim import Aim

#: the pictures that are written to a folder of figures
FIGURES = ("scores.png", "labels.png")

Scores = Mapping[str, torch.Tensor]


def write_guard(
    guard: Calibrated,
    out: Path,
    warnings: Sequence[str] = (),
    found: Sequence[FoundTrigger] | None = None,
) -> CalibrateRecord:
    """Write a guard, its model and the picture of its scores to a folder, and return its record.

    Args:
        guard: calibrated.
        out: the folder.
        warnings: what the reader must know.
        found: how many images pass with the triggers of a scan; None where none was asked about.

    Raises:
        InputError: the folder cannot be written.
        ModelError: the model cannot be written.

    """
    save_bundle(guard, out)
    more: dict[str, Any] = guard.state()[1] | ({} if found is None else {"found": list(found)})
    draw_scores(guard, {"clean": guard.clean_scores}, out)
    low, high = guard.supported()
    return CalibrateRecord(
        guard=guard.method.name,
        hyper_parameters=guard.method.hyper_parameters(),
        statistic=guard.statistic,
        boundary=guard.threshold * guard.sign,
        inputs=len(guard.clean_scores),
        called_backdoored=int(guard.suspicious(guard.clean_scores).sum()),
        frr_low=low,
        frr_high=high,
        **more,
        warnings=[*warnings, *guard.warnings],
        out=str(out),
    )


def check(
    guard: Calibrated, data: Dataset, names: Sequence[str], *, as_class: bool = False
) -> tuple[CheckRecord, torch.Tensor]:
    """Judge inputs; return the record and the scores (N,).

    Args:
        guard: calibrated.
        data: the inputs.
        names: one for each.
        as_class: whether a backdoored input is answered with one more class than the model has.

    """
    scores = guard.score(data.images)
    rows = guarded_answers(guard, data, names, scores, as_class=as_class)
    return CheckRecord(
        guard=guard.method.name,
        statistic=guard.statistic,
        boundary=guard.threshold * guard.sign,
        inputs=len(rows),
        backdoored=sum(bool(row.backdoored) for row in rows),
        predictions=rows,
        skipped=list(data.skipped),
        warnings=[*data.warnings, *overflow_warnings(rows, guard.statistic)],
    ), scores


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A guard on clean images and on the same images with a known trigger.

    Attributes:
        record: the figures.
        measured: the same, for the page.
        data: the clean images.
        stamped: those of other labels than the target, with the trigger, (M, C, H, W).
        scores: "clean" (N,) and "stamped" (M,).
        pictures: what was stamped.

    """

    record: MeasureRecord
    measured: Measured
    data: Dataset
    stamped: torch.Tensor
    scores: Scores
    pictures: TriggerPictures


def measure(
    guard: Calibrated,
    data: Dataset,
    trigger_file: Path,
    *,
    place: tuple[int, int] | None = None,
    target: int | None = None,
) -> Measurement:
    """Measure a guard with a known trigger.

    Args:
        guard: calibrated.
        data: clean images, labelled or not.
        trigger_file: a trigger, or a picture that is stamped.
        place: row and column of the picture's upper left corner.
        target: the label that it leads to; images of it are not stamped.

    Raises:
        OptionError: a target beyond the model's classes.
        DataError: images or a trigger that do not fit the model.

    """
    check_shape(guard.model, data)
    data, warnings = with_usable_labels(guard.model, data)
    warnings += feeding_warnings(guard.model, data)
    if target is not None and target >= guard.model.num_classes:
        raise OptionError(f"expected a target of 0 to {guard.model.num_classes - 1}, got {target}")
    trigger = load_trigger(trigger_file, guard.model.input_shape, place=place)
    truth = guard.model.answers(data.images) if data.labels is None else data.labels
    chosen = data.images[Aim(target=target).moved(truth)]
    stamped = trigger.stamp(chosen)
    scores = {"clean": guard.score(data.images), "stamped": guard.score(stamped)}
    warnings += [*_seen_before(guard, data.images), *_overflows(guard, scores)]
    found = detection(scores["clean"], scores["stamped"], guard.threshold)
    measured = Measured(detection=found)
    figures: dict[str, Any] = asdict(found)
    if target is not None:
        won = guard.model.answers(stamped) == target
        alone = float(won.double().mean())
        guarded = float((won & ~guard.suspicious(scores["stamped"])).double().mean())
        measured = Measured(detection=found, target=target, success=alone, success_guarded=guarded)
        figures |= {"attack_success": alone, "attack_success_guarded": guarded}
    record = MeasureRecord(
        guard=guard.method.name,
        boundary=guard.threshold * guard.sign,
        **figures,
        warnings=warnings,
    )
    pictures = trigger_pictures(trigger, chosen, model=guard.model)
    return Measurement(
        record=record, measured=measured, data=data, stamped=stamped, scores=scores, pictures=pictures
    )


def _seen_before(guard: Calibrated, images: torch.Tensor) -> list[str]:
    """Return a warning where some of the images are those that the guard mixes its inputs with."""
    if not isinstance(guard, CalibratedStrip):
        return []
    known = {image.numpy().tobytes() for image in guard.overlays.cpu()}
    again = sum(image.numpy().tobytes() in known for image in images.cpu())
    if not again:
        return []
    return [
        (
            f"{again} of {len(images):,} clean images are among those that set the guard up: its FRR "
            "on them is about the one that was asked for, whatever it is on others; take other images"
        )
    ]


def _overflows(guard: Calibrated, scores: Scores) -> list[str]:
    """Return a warning for each group of images with scores that are no finite number."""
    lost = {name: int((~values.isfinite()).sum()) for name, values in scores.items()}
    return [
        f"{count:,} of {len(scores[name]):,} {name} images have no finite {guard.statistic}, the network's "
        "answers to their copies overflow: they count as called backdoored"
        for name, count in lost.items()
        if count
    ]


def write_page(
    file: Path,
    guard: Calibrated,
    scores: Scores,
    data: Dataset,
    *,
    run: Run,
    started: datetime,
    command: Sequence[str] | None = None,
    warnings: Sequence[str] = (),
    measured: Measured | None = None,
    pictures: TriggerPictures | None = None,
) -> None:
    """Write the page of a guard.

    Args:
        file: where it goes.
        guard: calibrated.
        scores: groups of scores that are drawn.
        data: the clean images.
        run: device and seed.
        started: when the job began.
        command: the words that asked for it.
        warnings: what the reader must know.
        measured: how it did with a known trigger.
        pictures: of that trigger.

    Raises:
        InputError: the file cannot be written.

    """
    how = guard.method.hyper_parameters()
    facts = run_facts(run, [guard.method], started, command, hyper_parameters=how)
    record = record_rows(model_facts(guard.model), data_facts(data), facts)
    page = guard_page(
        guard, scores, record=record, facts=facts, warnings=warnings, measured=measured, pictures=pictures
    )
    save_text(file, page)


def draw_scores(guard: Calibrated, scores: Scores, folder: Path) -> None:
    """Write scores.png, how groups of scores spread, with the boundary."""
    groups = {name: values[values.isfinite()] * guard.sign for name, values in scores.items()}
    content = histogram(groups, axis=guard.statistic, limit=guard.threshold * guard.sign)
    save_bytes(folder / FIGURES[0], content)


def extremes(data: Dataset, scores: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the most and the least suspicious input (1, C, H, W), by what it is."""
    ranked = scores.where(scores.isfinite(), math.inf)
    most, least = int(ranked.argmax()), int(ranked.argmin())
    return {"most suspicious": data.images[most][None], "least suspicious": data.images[least][None]}


def draw_labels(guard: Calibrated, chosen: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write labels.png, how the copies of inputs (1, C, H, W) are answered, where it makes some."""
    if not isinstance(guard, CalibratedStrip):
        return
    classes = guard.model.num_classes
    groups = {}
    for name, images in chosen.items():
        if not len(images):
            raise DataError(f"expected {name} images to draw, got none")
        counts = guard.labels(images).flatten().bincount(minlength=classes)
        groups[name] = (counts / counts.sum()).tolist()
    names = [guard.model.class_name(label) for label in range(classes)]
    save_bytes(folder / FIGURES[1], bars(groups, names, axis="answers to the copies of one input"))
