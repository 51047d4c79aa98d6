"""The job of an attack: poison data, train on them, measure, and write all of it to a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from detrojan.attacks.base import Attack, Poisoned, PoisoningAttack, TrainingAttack
from detrojan.data.dataset import Dataset
from detrojan.errors import InputError, OptionError
from detrojan.files import save_bytes
from detrojan.jobs.inputs import training_data
from detrojan.jobs.sources import DataSource
from detrojan.jobs.triggers import load_trigger, save_trigger
from detrojan.learning.fitting import Fitting
from detrojan.learning.fresh import start_net, train_net
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.metrics.chance import chance_warning
from detrojan.models.classifier import Classifier
from detrojan.models.writing import save_model
from detrojan.report.pictures import png, stamped_rows
from detrojan.report.records.attack import AttackRecord, BackdoorEntry
from detrojan.report.report import data_facts
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger
from detrojan.words import percent

#: a trigger that works on a smaller share of the held-out images was not learned
PLANTED = 0.5
#: the files that are written to the folder
WRITES = (
    *("attack.json", "model.safetensors", "clean.safetensors", "poisoned.npz", "poisoned.png"),
    *("covers.png", "stamped*.png", "trigger_*.safetensors", "trigger_*.png"),
)


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """Backdoors, with the network that has them, or the data that teach them, or both."""

    model: Classifier | None
    backdoors: tuple[Backdoor, ...]
    poisoned: Poisoned | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an attack is tried on, and how the networks are trained."""

    run: Run
    net: str | None
    train: Dataset
    test: Dataset
    fitting: Fitting
    command: Sequence[str] | None = None

    def classes(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of classes, and their names where there are as many."""
        classes = 1 + int(max(self.train.require_labels("training").max(), self.test.labels.max()))  # type: ignore[union-attr]
        names = self.train.class_names if len(self.train.class_names) >= classes else ()
        return len(names) or classes, names

    def trained(self, data: Dataset, title: str) -> Classifier:
        """Return a network trained on `data`, from the same start each time."""
        classes, names = self.classes()
        assert self.net is not None
        return train_net(
            self.net, data, self.fitting, classes=classes, names=names, run=self.run, title=title
        )

    def attacked(self, attack: Attack) -> Attacked:
        """Poison the data and train on them, or let the attack train."""
        if isinstance(attack, TrainingAttack):
            if self.net is None:
                raise OptionError(f"expected --net NAME: {attack.name} trains the network itself")
            classes, names = self.classes()
            start = start_net(self.net, self.train.shape, classes=classes, names=names, run=self.run)
            planted = attack.train(start, self.train, run=self.run, how=self.fitting)
            return Attacked(model=planted.model, backdoors=planted.backdoors)
        assert isinstance(attack, PoisoningAttack)
        with self.run.progress.task(f"attack {attack.name}", 1) as task:
            poisoned = attack.poison(self.train, run=self.run)
            task.advance(1)
        title = "training the backdoored network"
        model = None if self.net is None else self.trained(poisoned.data, title)
        return Attacked(model=model, backdoors=poisoned.backdoors, poisoned=poisoned)

    def record(
        self, attack: Attack, attacked: Attacked, twin: Classifier | None, *, begun: float
    ) -> AttackRecord:
        """Return the record of the attack: what was planted and what the networks do on held-out data.

        Args:
            attack: the method.
            attacked: what it made.
            twin: a network trained on the clean data, or None.
            begun: when the job began, by the monotonic clock.

        Raises:
            LabelError: no held-out images of a backdoor's source label.

        """
        poisoned = attacked.poisoned
        planted = [
            self._planted(number, backdoor, attacked, twin)
            for number, backdoor in enumerate(attacked.backdoors)
        ]

        def accuracy(model: Classifier | None) -> float | None:
            return None if model is None else clean_accuracy(model, self.test)

        return AttackRecord(
            method=attack.name,
            hyper_parameters=attack.hyper_parameters(),
            clean_label=attack.clean_label,
            net=self.net,
            fitting=dict(vars(self.fitting)),
            seed=self.run.seed,
            data=data_facts(self.train),
            held_out=len(self.test),
            clean_accuracy=accuracy(attacked.model),
            clean_accuracy_of_clean_twin=accuracy(twin),
            backdoors=planted,
            covers=0 if poisoned is None else len(poisoned.covers),
            command=None if self.command is None else list(self.command),
            warnings=[*doubts(planted), *self._at_chance(attacked.model)],
            seconds=round(time.monotonic() - begun, 3),
        )

    def _at_chance(self, model: Classifier | None) -> list[str]:
        """Return a warning where the network is right on held-out images no more often than chance."""
        if model is None:
            return []
        return chance_warning(model.answers(self.test.images), self.test.require_labels("measuring"))

    def _planted(
        self, number: int, backdoor: Backdoor, attacked: Attacked, twin: Classifier | None
    ) -> BackdoorEntry:
        """Return what is known of one backdoor."""
        truth = self.test.require_labels("measuring an attack")
        aim = backdoor.aim
        aim.moved(truth)  # also where there is no network to ask: no image to move is an error

        def success(model: Classifier | None) -> float | None:
            return None if model is None else backdoor.success(model, self.test.images, truth)

        poisoned = attacked.poisoned
        return BackdoorEntry(
            target=aim.target,
            offset=aim.offset,
            source=aim.source,
            trigger=f"trigger_{number}.safetensors",
            poisoned=None if poisoned is None else int((poisoned.which == number).sum()),
            attack_success=success(attacked.model),
            **({} if twin is None else {"attack_success_on_clean_twin": success(twin)}),
        )


def attack_data(source: DataSource, test: str | None, run: Run) -> tuple[Dataset, Dataset]:
    """Return training data and held-out data: what was stated, the test split, or a fifth.

    Args:
        source: which data.
        test: where the held-out data lie, or None.
        run: the seed that images are drawn with.

    Raises:
        LabelError: no labels.
        InputError: held-out images of another shape.

    """
    train, held = training_data(source, test, run, purpose="an attack", measuring="measuring an attack")
    if held is None:
        held, train = train.split(max(1, len(train) // 5), run.generator("held out"))
    return train, held


def doubts(planted: Sequence[BackdoorEntry]) -> list[str]:
    """Return what to say of triggers that the network has not learned: no defence can be tried on those."""
    return [
        (
            f"trigger {number} works on {percent(entry.attack_success)} of the held-out images only: the "
            "network has not learned it; a larger or stronger trigger, a higher --poison-rate, more --epochs "
            "or another --net may help"
        )
        for number, entry in enumerate(planted)
        if entry.attack_success is not None and entry.attack_success < PLANTED
    ]


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A picture, or a saved trigger, that is planted instead of an attack's own trigger.

    Attributes:
        path: its file.
        target: the label it leads to; None for any but the truth.
        place: row and column of its upper left corner; None for the image's own.

    """

    path: Path
    target: int | None = None
    place: tuple[int, int] | None = None


def with_stamps(
    attack: Attack,
    stamps: Sequence[Stamp],
    shape: tuple[int, int, int],
    *,
    several: bool,
    source: int | None = None,
    size: tuple[int, int] | None = None,
    alpha: float = 1.0,
) -> Attack:
    """Return the attack with pictures, or triggers out of files, instead of its own trigger.

    Args:
        attack: the attack.
        stamps: what is planted.
        shape: (C, H, W) of the images.
        several: whether each has a target of its own; else there is one, with the attack's target.
        source: the only label that they work on; None for all.
        size: (H, W) that a picture is brought to.
        alpha: opacity of a picture, in (0, 1].

    Raises:
        OptionError: an attack that takes none.
        DataError: a file that cannot be read, or that does not fit the images.

    """
    field = "backdoors" if several else "trigger"
    if field not in {item.name for item in fields(attack)}:
        taken = "several pictures as triggers" if several else "a picture as its trigger"
        raise OptionError(f"expected an attack that takes {taken}, got {attack.name}")

    def trigger(stamp: Stamp) -> Trigger:
        wanted, opacity = size, alpha
        if attack.covers_image and stamp.path.suffix.lower() != ".safetensors":
            wanted, opacity = size or shape[1:], getattr(attack, "alpha", alpha)
        return load_trigger(stamp.path, shape, place=stamp.place, size=wanted, alpha=opacity)

    if not several:
        return replace(attack, trigger=trigger(stamps[0]))  # type: ignore[call-arg]
    planted = tuple(Backdoor(trigger=trigger(stamp), target=stamp.target, source=source) for stamp in stamps)
    return replace(attack, backdoors=planted)  # type: ignore[call-arg]


def write_folder(out: Path, job: Job, attacked: Attacked, twin: Classifier | None) -> None:
    """Write the networks, the triggers with their pictures, and the poisoned data.

    Raises:
        InputError: a file cannot be written.

    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    if attacked.poisoned is not None:
        _write_poisoned(out, attacked.poisoned, job.train)
    if attacked.model is not None:
        save_model(attacked.model, out / "model.safetensors")
    if twin is not None:
        save_model(twin, out / "clean.safetensors")
    for number, backdoor in enumerate(attacked.backdoors):
        save_trigger(backdoor.trigger, out / f"trigger_{number}.safetensors")
        save_bytes(out / f"trigger_{number}.png", png(backdoor.trigger.picture()))
        shown = job.test.images[backdoor.aim.victims(job.test.require_labels("stamping"))][:6]
        name = "stamped.png" if len(attacked.backdoors) == 1 else f"stamped_{number}.png"
        save_bytes(out / name, stamped_rows(shown, backdoor.trigger.stamp(shown)))


def _write_poisoned(out: Path, poisoned: Poisoned, before: Dataset) -> None:
    data = poisoned.data
    try:
        np.savez_compressed(
            out / "poisoned.npz",
            images=(data.images * 255).round().byte().permute(0, 2, 3, 1).numpy(),
            labels=data.require_labels("poisoning").numpy(),
            indices=poisoned.indices.numpy(),
            covers=poisoned.covers.numpy(),
        )
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    for name, places in (("poisoned.png", poisoned.indices[:6]), ("covers.png", poisoned.covers[:6])):
        if len(places):
            save_bytes(out / name, stamped_rows(before.images[places], data.images[places]))
