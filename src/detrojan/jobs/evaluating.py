"""The job of an evaluation: what a model does with clean images and with stamped ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError
from detrojan.jobs.feeding import automatic, without_auto
from detrojan.jobs.inputs import Inputs, load_data, load_inputs, load_model_at
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.n_plus_one import backdoored_class
from detrojan.report.pictures import TriggerPictures, trigger_pictures
from detrojan.report.report import EvaluateReport, Measures, evaluate_report, measures
from detrojan.run import Run
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger


def load_judged(model: ModelSource, data: DataSource, run: Run, *, against: Path | None) -> Inputs:
    """Load a model and the data to measure it on.

    Args:
        model: which model.
        data: which data; their labels may be missing where they are to be left out.
        run: device and seed.
        against: another model whose answers stand in for missing labels.

    Raises:
        LabelError: no labels, or labels that cannot be the model's, where nothing stands in for them.

    """
    free = data.unlabelled or against is not None
    inputs = load_inputs(model, data, run, strict=not free)
    if inputs.data.labels is None and not free:
        raise LabelError(
            f"expected labelled data to evaluate with, got images without labels ({inputs.data.source}); "
            "--unlabelled or --against ORIGINAL do without"
        )
    return inputs


def evaluate(
    inputs: Inputs,
    source: ModelSource,
    data: DataSource,
    *,
    run: Run,
    started: datetime,
    begun: float,
    against: Path | None = None,
    trigger: Trigger | None = None,
    trigger_file: Path | None = None,
    target: int | None = None,
    command: Sequence[str] | None = None,
) -> EvaluateReport:
    """Measure a model and report.

    Args:
        inputs: from `load_judged`.
        source: how the model was fed; the other one is fed alike.
        data: where the images come from; they are read again for a model of another input size.
        run: device and seed.
        started: when the job began.
        begun: the same, by the monotonic clock.
        against: another model's file, whose answers are compared with.
        trigger: what is stamped, or None.
        trigger_file: where it was read from.
        target: the label it leads to; None for an untargeted one.
        command: the words that asked for it, for the report.

    Raises:
        LabelError: a target beyond the model's classes.
        ModelError: the other model cannot be read.
        DataError: the other model takes another size, and not the same images could be read for it.

    """
    answers: torch.Tensor | None = None
    guessed: tuple[str, ...] = ()
    if against is not None:
        reference = load_model_at(against, without_auto(source), run)
        if automatic(source):
            reference = reference.with_preprocessing(inputs.model.preprocessing)
        answers, guessed = _answers(reference, inputs, data, run), reference.origin.notes
    measured = measure(inputs.model, inputs.data, answers, trigger, target)
    return evaluate_report(
        measured,
        inputs.model,
        inputs.data,
        run=run,
        seconds=time.monotonic() - begun,
        started=started,
        warnings=(*inputs.warnings, *guessed),
        command=command,
        reference=str(against or ""),
        trigger=str(trigger_file or ""),
    )


def _answers(reference: Classifier, inputs: Inputs, source: DataSource, run: Run) -> torch.Tensor:
    """Return another model's answers (N,), each to the image that the judged model is asked about."""
    if reference.input_shape == inputs.model.input_shape:
        return reference.answers(inputs.data.images)
    seen = load_data(replace(source, resize=None, channels=None, unlabelled=True), run, network=reference)
    if len(seen) != len(inputs.data):
        raise DataError(
            f"{inputs.data.source}: expected {len(inputs.data)} images for the other model too, "
            f"got {len(seen)}"
        )
    return reference.answers(seen.images)


def stamped_pictures(
    trigger: Trigger | None, target: int | None, inputs: Inputs
) -> dict[int, TriggerPictures]:
    """Return the pictures of what was stamped, on images of other labels than the target, by label."""
    if trigger is None:
        return {}
    shown, labels = inputs.data.images, inputs.data.labels
    if labels is not None and target is not None:
        shown = shown[Aim(target=target).victims(labels)]
    return {-1 if target is None else target: trigger_pictures(trigger, shown, model=inputs.model)}


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
