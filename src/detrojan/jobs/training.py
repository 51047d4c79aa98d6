"""The job of a training on data that nobody vouches for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.data.dataset import Dataset
from detrojan.data.positions import in_source
from detrojan.errors import InputError, OptionError
from detrojan.files import save_bytes, save_text
from detrojan.jobs.triggers import load_trigger
from detrojan.judging.outcome import REPAIRED
from detrojan.learning.fresh import start_net
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.metrics.chance import chance_warning
from detrojan.models.classifier import Classifier
from detrojan.models.writing import save_model
from detrojan.report.figures import lines
from detrojan.report.pictures import contact_sheet
from detrojan.report.records.train import TrainRecord
from detrojan.report.report import data_facts, model_facts, run_facts
from detrojan.report.schema import Step
from detrojan.report.sentences import record_rows
from detrojan.report.train_page import train_page
from detrojan.run import Run
from detrojan.trainers.base import Trained, Trainer
from detrojan.triggers.base import Trigger
from detrojan.words import percent

#: isolated samples that are drawn
DRAWN = 36
#: a network that is right about fewer of its training samples than this has hardly learned
LEARNED = 0.5
#: the files that are written to the folder, or removed from it
WRITES = ("model.safetensors", "train.json", "losses.png", "isolated.npz", "isolated.png")


@dataclass(frozen=True, kw_only=True)
class Known:
    """A trigger that is known, for scoring only, and the label it leads to."""

    trigger: Trigger
    target: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training, and what its record needs.

    Attributes:
        method: the trainer.
        net: the network's name.
        train: labelled, what is trained on.
        test: clean and held out, or None.
        known: a trigger that the network is tried with at the end, or None.
        begun: when the job began, by the monotonic clock.
        started: the same, as a date.
        command: the words that asked for it.

    """

    method: Trainer
    net: str
    train: Dataset
    test: Dataset | None
    known: Known | None
    begun: float
    started: datetime
    command: Sequence[str] | None = None

    def record(self, trained: Trained, run: Run) -> TrainRecord:
        """Return the record of the training, measured on held-out images where there are some."""
        learned = clean_accuracy(trained.model, self.train)
        success = self._success(trained.model)
        told: dict[str, Any] = {} if success is None else {"attack_success": success}
        isolated = in_source(self.train, trained.isolated)
        return TrainRecord(
            method=self.method.name,
            hyper_parameters=self.method.hyper_parameters(),
            net=self.net,
            seed=run.seed,
            data=data_facts(self.train),
            held_out=0 if self.test is None else len(self.test),
            clean_accuracy=None if self.test is None else clean_accuracy(trained.model, self.test),
            training_accuracy=learned,
            isolated=len(trained.isolated),
            isolated_positions=isolated.tolist(),
            steps=[Step(**vars(step)) for step in trained.steps],
            command=None if self.command is None else list(self.command),
            **told,
            warnings=[*failures(learned, success), *self._at_chance(trained.model), *trained.warnings],
            seconds=round(time.monotonic() - self.begun, 3),
        )

    def _at_chance(self, model: Classifier) -> list[str]:
        """Return a warning where the network is right on held-out images no more often than chance."""
        if self.test is None:
            return []
        return chance_warning(model.answers(self.test.images), self.test.require_labels("measuring"))

    def _success(self, model: Classifier) -> float | None:
        """Return how often the known trigger works, on held-out images where there are some."""
        if self.known is None:
            return None
        data = self.train if self.test is None else self.test
        labels = data.require_labels("measuring an attack")
        return attack_success(model, self.known.trigger, data.images, labels, self.known.target)

    def write_page(self, file: Path, record: TrainRecord, trained: Trained, run: Run, out: Path) -> None:
        """Write the page of the training; `out` is the folder that holds the network.

        Raises:
            InputError: the file cannot be written.

        """
        how = self.method.hyper_parameters()
        facts = run_facts(run, [self.method], self.started, self.command, hyper_parameters=how)
        rows = record_rows(model_facts(trained.model), data_facts(self.train), facts)
        page = train_page(record.values(), trained, self.train, record=rows, facts=facts, output=str(out))
        save_text(file, page)


def fresh(net: str, train: Dataset, test: Dataset | None, run: Run) -> Classifier:
    """Return an untrained network for the data; equal seeds give equal starts.

    Args:
        net: the network's name.
        train: labelled.
        test: labelled too, or None.
        run: the seed.

    """
    highest = max(int(part.require_labels("training").max()) for part in (train, test) if part is not None)
    names = train.class_names if len(train.class_names) > highest else ()
    return start_net(net, train.shape, classes=len(names) or highest + 1, names=names, run=run)


def known_trigger(
    model: Classifier, file: Path | None, target: int | None, place: tuple[int, int] | None
) -> Known | None:
    """Return the known trigger, if one was stated; what is wrong with it shows before the training.

    Raises:
        OptionError: a target beyond the network's classes.
        DataError: no trigger, or one that does not fit the images.

    """
    if file is None or target is None:
        return None
    if target >= model.num_classes:
        raise OptionError(f"expected a target of 0 to {model.num_classes - 1}, got {target}")
    return Known(trigger=load_trigger(file, model.input_shape, place=place), target=target)


def failures(learned: float, success: float | None) -> list[str]:
    """Return what to say of a network that did not learn its task, or that has learned the backdoor.

    Args:
        learned: share of its training samples that it is right about.
        success: how often the known trigger works; None where there is none.

    """
    found = []
    if learned < LEARNED:
        found.append(
            f"the network is right about {percent(learned)} of its own training samples: it has hardly "
            "learned; try another --set learning_rate, more epochs or another --net"
        )
    if success is not None and success >= REPAIRED:
        found.append(
            f"the known trigger works on {percent(success)} of the images: this training has not kept the "
            "backdoor out"
        )
    return found


def write_folder(out: Path, trained: Trained, data: Dataset) -> None:
    """Write the network, the isolated samples with pictures, and the losses' curves.

    Raises:
        InputError: a file cannot be written.

    """
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
