"""What every training on suspect data shares."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError
from detrojan.findings import RepairStep
from detrojan.learning.fitting import Epoch
from detrojan.learning.identity import identified
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.store import digest, tensor_digest

#: the losses of so many clean and so many poisoned samples make a point of a curve
WATCHED = 250


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network, and what its trainer took for poison.

    Attributes:
        model: the trained copy; the model that was given is unchanged.
        isolated: positions of the samples taken for poisoned, the most suspicious first, (I,) int64;
            empty where the trainer isolates none.
        steps: what was done, in order, with its curves.
        warnings: why what was isolated is doubtful, one sentence each; empty where nothing speaks against it.

    """

    model: Classifier
    isolated: torch.Tensor
    steps: tuple[RepairStep, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trainer(Method, ABC):
    """Base of the trainers: each learns from labelled data that nobody vouches for."""

    @abstractmethod
    def train(
        self, model: Classifier, data: Dataset, *, run: Run, poisoned: torch.Tensor | None = None
    ) -> Trained:
        """Return a copy of `model`, trained on labelled `data` from the weights it has.

        `poisoned` are the true positions of the poisoned samples, (P,) int64. They are for scoring
        only: with them the curves tell the losses of clean and poisoned samples apart.
        """


def checked(model: Classifier, data: Dataset, poisoned: torch.Tensor | None) -> torch.Tensor:
    """Return the labels of `data`, or say what does not fit.

    Raises:
        LabelError: no labels, or labels beyond the model's classes.
        DataError: images of another shape, or positions beyond the data.

    """
    labels = data.require_labels("training")
    if int(labels.max()) >= model.num_classes:
        raise LabelError(f"expected labels of 0 to {model.num_classes - 1}, got up to {int(labels.max())}")
    model.check(data.images)
    if poisoned is not None and len(poisoned):
        low, high = int(poisoned.min()), int(poisoned.max())
        if low < 0 or high >= len(data):
            raise DataError(
                f"expected positions of poisoned samples of 0 to {len(data) - 1}, got {low} to {high}"
            )
    return labels


def losses(model: Classifier, data: Dataset) -> torch.Tensor:
    """Return each sample's cross entropy (N,), in evaluation mode, without augmentation."""
    return functional.cross_entropy(
        model.all_logits(data.images), data.require_labels("a loss"), reduction="none"
    )


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Measures the loss of clean and of poisoned samples after every epoch, also over interruptions.

    Attributes:
        model: the network while it is trained.
        clean: some clean samples, or None where nobody knows which they are.
        poisoned: some poisoned samples, or None.
        run: where the measurements are kept.
        identity: what tells the training apart that is watched.
        measured: (clean loss, poisoned loss) by the epoch's number.

    """

    model: Classifier
    clean: Dataset | None
    poisoned: Dataset | None
    run: Run
    identity: Mapping[str, object]
    measured: dict[int, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: Classifier,
        data: Dataset,
        poisoned: torch.Tensor | None,
        *,
        run: Run,
        identity: Mapping[str, object],
    ) -> Watch:
        """Return a watch over some of the data's samples; over none if nobody knows the poisoned ones."""
        if poisoned is None or not 0 < len(poisoned) < len(data):
            return cls(model=model, clean=None, poisoned=None, run=run, identity=identity)
        bad = torch.zeros(len(data), dtype=torch.bool)
        bad[poisoned] = True
        generator = run.generator("watch")
        clean = data.select(~bad).sample(WATCHED, generator)
        dirty = data.select(bad).sample(WATCHED, generator)
        return cls(model=model, clean=clean, poisoned=dirty, run=run, identity=identity)

    def hook(self) -> Callable[[Epoch], None] | None:
        """Return what is to be called after each epoch; what an earlier call measured is taken over."""
        if self.clean is None or self.poisoned is None:
            return None
        clean, poisoned = self.clean, self.poisoned
        fingerprint = {
            "identity": identified(dict(self.identity)),
            "start": digest(self.model.network),
            "samples": [tensor_digest(clean.images), tensor_digest(poisoned.images)],
        }
        store = self.run.store("losses", fingerprint)
        kept = store.load()
        if kept is not None:
            self.measured.update({int(n): (a, b) for n, (a, b) in kept[1]["measured"].items()})

        def after_epoch(epoch: Epoch) -> None:
            found = tuple(float(losses(self.model, part).mean()) for part in (clean, poisoned))
            self.measured[epoch.number] = (found[0], found[1])
            store.save({}, {"measured": self.measured})

        return after_epoch

    def curves(self, history: list[Epoch]) -> dict[str, list[float]]:
        """Return the curves of the training, the watched losses among them."""
        curves = {
            "epoch": [float(epoch.number) for epoch in history],
            "training loss": [epoch.loss for epoch in history],
        }
        if self.clean is not None:
            nothing = (float("nan"), float("nan"))
            found = [self.measured.get(epoch.number, nothing) for epoch in history]
            curves["clean loss"] = [clean for clean, _ in found]
            curves["poisoned loss"] = [bad for _, bad in found]
        return curves


@dataclass(frozen=True, kw_only=True)
class LateLosses:
    """Each sample's loss after the last epochs of a training, also over interruptions.

    Attributes:
        model: the network while it is trained.
        data: what it is trained on.
        run: where the measurements are kept.
        first: the first epoch after which is measured.
        identity: what tells the training apart.
        measured: losses (N,) by the epoch's number.

    """

    model: Classifier
    data: Dataset
    run: Run
    first: int
    identity: Mapping[str, object]
    measured: dict[int, torch.Tensor] = field(default_factory=dict)

    def hook(self) -> Callable[[Epoch], None]:
        """Return what is to be called after each epoch; what an earlier call measured is taken over."""
        fingerprint = {
            "first": self.first,
            "identity": identified(dict(self.identity)),
            "start": digest(self.model.network),
            "images": tensor_digest(self.data.images),
            "labels": tensor_digest(self.data.require_labels("a loss")),
        }
        store = self.run.store("late-losses", fingerprint)
        kept = store.load()
        if kept is not None:
            self.measured.update({int(number): found for number, found in kept[0].items()})

        def after_epoch(epoch: Epoch) -> None:
            if epoch.number >= self.first:
                self.measured[epoch.number] = losses(self.model, self.data)
                store.save({str(number): found for number, found in self.measured.items()}, {})

        return after_epoch

    def upper(self) -> torch.Tensor:
        """Return the loss that each sample does not exceed after two thirds of the epochs measured (N,)."""
        found = torch.stack([self.measured[number] for number in sorted(self.measured)])
        return found.sort(0).values[math.ceil(2 * len(found) / 3) - 1]
