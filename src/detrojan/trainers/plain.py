"""Plain training: what a defence is compared with."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import RepairStep
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.trainers.base import Trained, Trainer, Watch, checked


@dataclass(frozen=True, kw_only=True)
class Plain(Trainer):
    """Train on all the data as they are: a poisoned set plants its backdoor.

    Reference: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016 (the schedule that the
    defences' papers train with).

    Args:
        epochs: passes over the data; 1 or more.
        learning_rate: of SGD with Nesterov momentum 0.9, a tenth at 60% and at 80% of the epochs;
            above 0.
        batch_size: 2 or more.
        weight_decay: 0 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        flip: mirror half of the images.

    """

    name = "plain"

    epochs: int = 80
    learning_rate: float = 0.1
    batch_size: int = 128
    weight_decay: float = 1e-4
    shift_pixels: int = 4
    flip: bool = False

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        self.fitting()
        if self.shift_pixels < 0:
            raise OptionError(f"expected shift_pixels of 0 or more, got {self.shift_pixels}")

    def fitting(self) -> Fitting:
        """Return how to train."""
        return Fitting(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            decay="steps",
        )

    def train(
        self, model: Classifier, data: Dataset, *, run: Run, poisoned: torch.Tensor | None = None
    ) -> Trained:
        """Return a copy of `model` trained on all of `data`; it isolates nothing."""
        checked(model, data, poisoned)
        copy = model.copy().to(run.device)
        identity = self.identity("plain")
        watch = Watch.of(copy, data, poisoned, run=run, identity=identity)
        history = fit(
            copy,
            data,
            self.fitting(),
            run=run.within("plain"),
            title="training",
            augment=shift(self.shift_pixels, flip=self.flip) if self.shift_pixels or self.flip else None,
            after_epoch=watch.hook(),
            identity=identity,
        )
        step = RepairStep(
            method=self.name,
            summary=f"trained on all {len(data):,} samples for {self.epochs} epochs",
            curves=watch.curves(history),
            details={"fitting": asdict(self.fitting())},
        )
        return Trained(model=copy, isolated=torch.empty(0, dtype=torch.int64), steps=(step,))
