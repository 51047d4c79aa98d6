"""Anti-backdoor learning: isolate what is learned too easily, train on the rest, unlearn the isolated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import RepairStep
from detrojan.learning.augmentation import Augment, shift
from detrojan.learning.fitting import Epoch, Fitting, Loss, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.trainers.base import LateLosses, Trained, Trainer, Watch, checked, losses
from detrojan.trainers.halves import contradicted
from detrojan.trainers.unlearning import isolated_right, unlearn

#: samples are ranked by their median loss after so many last epochs of the isolation: at a high learning rate
#: an epoch now and then leaves a clean label too easy, but not the same one
RANKED_BY = 3


@dataclass(frozen=True, kw_only=True)
class ABL(Trainer):
    """Isolate the samples of lowest loss early in the training, train on the rest, unlearn the isolated.

    A backdoor is learned faster than the task. While the mean loss is held at `gamma`, poisoned samples
    reach a loss far below it, and clean ones do not. The share of samples with the lowest loss is isolated.
    The network is trained on the rest. Then it climbs the loss of the isolated samples.

    Departures from the paper: what counts is the median loss after the last three epochs, in evaluation
    mode without augmentation. Other samples are kept right during the climb. They come from those whose
    losses were high both in the isolation and after it (30% of all, 10% of a label), since poison has a low
    loss at one of the two. The climb has a slope where a sample is answered with certainty. It ends at the
    loss of guessing, and leaves the batch norms' statistics alone.

    The unlearning is undone if more than 80% of the isolated samples stay below the loss of guessing. It is
    also undone if it costs 5 points of accuracy, two samples at least, on others of their labels. What
    cannot be told from the other samples of its label is not poison. Then a second look isolates and
    unlearns samples that mean another label with certainty once half of the image is replaced by the other
    half's mirror image. Poison of the composite attack is no easier than clean samples, and is found in
    this way. The second unlearning is undone by the same rule.

    Reference: Li et al., Anti-Backdoor Learning: Training Clean Models on Poisoned Data,
    NeurIPS 2021.

    Args:
        isolation_epochs: passes over the data before samples are isolated; 1 or more (paper: 20).
        epochs: passes over the rest; 1 or more (paper: 60).
        unlearn_epochs: passes of unlearning over the isolated samples and those that are kept right;
            0 or more (the paper has 20 at most).
        isolation: how a batch's mean loss is held at gamma: "ascent" climbs below it (local gradient
            ascent), "flooding" turns the loss around there; both have the same slope.
        gamma: the mean loss that isolation holds; above 0.
        isolation_rate: share of the samples that is isolated, in (0, 1).
        learning_rate: of SGD with Nesterov momentum 0.9, on the rest a tenth at 60% and at 80% of the
            epochs; above 0.
        unlearn_rate: learning rate of the unlearning; above 0.
        batch_size: 2 or more.
        weight_decay: 0 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        flip: mirror half of the images.

    """

    name = "abl"

    isolation_epochs: int = 20
    epochs: int = 60
    unlearn_epochs: int = 20
    isolation: Literal["ascent", "flooding"] = "ascent"
    gamma: float = 0.5
    isolation_rate: float = 0.01
    learning_rate: float = 0.1
    unlearn_rate: float = 5e-4
    batch_size: int = 128
    weight_decay: float = 1e-4
    shift_pixels: int = 4
    flip: bool = False

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.isolation not in {"ascent", "flooding"}:
            raise OptionError(f"expected the isolation ascent or flooding, got {self.isolation!r}")
        if not (self.gamma > 0 and 0 < self.isolation_rate < 1):
            raise OptionError(
                "expected gamma above 0 and isolation_rate in (0, 1), "
                f"got {self.gamma:g} and {self.isolation_rate:g}"
            )
        if self.unlearn_epochs < 0 or self.shift_pixels < 0:
            raise OptionError(
                "expected unlearn_epochs and shift_pixels of 0 or more, "
                f"got {self.unlearn_epochs} and {self.shift_pixels}"
            )
        self._fitting(self.isolation_epochs)
        self._fitting(self.epochs)
        self._unlearning()

    def _fitting(self, epochs: int, decay: Literal["steps", "none"] = "none") -> Fitting:
        return Fitting(
            epochs=epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            decay=decay,
        )

    def _unlearning(self) -> Fitting:
        return Fitting(
            epochs=max(1, self.unlearn_epochs),
            learning_rate=self.unlearn_rate,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            decay="none",
            frozen_norm=True,
        )

    def _augment(self) -> Augment | None:
        return shift(self.shift_pixels, flip=self.flip) if self.shift_pixels or self.flip else None

    def train(
        self, model: Classifier, data: Dataset, *, run: Run, poisoned: torch.Tensor | None = None
    ) -> Trained:
        """Return a copy of `model` trained on `data` without their backdoor, and what was isolated.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.
            OptionError: nothing would be left to train on.

        """
        checked(model, data, poisoned)
        count = max(1, round(self.isolation_rate * len(data)))
        if len(data) - count < 2:
            raise OptionError(f"expected 2 or more samples beside the isolated ones, got {len(data) - count}")
        copy = model.copy().to(run.device)
        ranked, first = self._isolate(copy, data, count, poisoned, run)
        isolated = ranked[:count].clone()
        second = self._train_on_rest(copy, data, isolated, poisoned, run)
        steps = [first, second]
        if self.unlearn_epochs:
            known, how = losses(copy, data), self._unlearning()
            steps.append(
                unlearn(
                    copy,
                    data,
                    ranked,
                    count,
                    how,
                    known=known,
                    poisoned=poisoned,
                    run=run,
                    identity=self.identity("unlearning"),
                )
            )
            if steps[-1].details["undone"]:
                # what was undone has left no trace: the losses still hold
                again, step = self._second_look(copy, data, count, known, poisoned, run)
                steps.append(step)
                isolated = isolated if step.details["undone"] else again
        return Trained(model=copy, isolated=isolated, steps=tuple(steps))

    def _second_look(
        self,
        model: Classifier,
        data: Dataset,
        count: int,
        known: torch.Tensor,
        poisoned: torch.Tensor | None,
        run: Run,
    ) -> tuple[torch.Tensor, RepairStep]:
        ranked = contradicted(model, data, known)
        step = unlearn(
            model,
            data,
            ranked,
            count,
            self._unlearning(),
            known=known,
            poisoned=poisoned,
            run=run,
            stage="second unlearning",
            identity=self.identity("second unlearning"),
            what="that mean another label once half of the image is replaced",
        )
        return ranked[:count].clone(), step

    def _isolate(
        self, model: Classifier, data: Dataset, count: int, poisoned: torch.Tensor | None, run: Run
    ) -> tuple[torch.Tensor, RepairStep]:
        identity = self.identity("isolation")
        watch = Watch.of(model, data, poisoned, run=run, identity=identity)
        how = self._fitting(self.isolation_epochs)
        late = LateLosses(
            model=model,
            data=data,
            run=run,
            first=self.isolation_epochs - RANKED_BY + 1,
            identity=identity,
        )
        hooks = [hook for hook in (watch.hook(), late.hook()) if hook is not None]

        def after_epoch(epoch: Epoch) -> None:
            for hook in hooks:
                hook(epoch)

        history = fit(
            model,
            data,
            how,
            run=run.within("abl", "isolation"),
            title="ABL: isolation",
            augment=self._augment(),
            loss=held_loss(self.isolation, self.gamma),
            after_epoch=after_epoch,
            identity=identity,
        )
        found = late.median()
        ranked = found.argsort(stable=True)
        isolated = ranked[:count]
        details = {
            "fitting": asdict(how),
            "isolated": count,
            "highest isolated loss": float(found[isolated[-1]]),
        } | isolated_right(isolated, poisoned)
        said = f"; {details['precision']:.1%} of them are poisoned" if "precision" in details else ""
        step = RepairStep(
            method=f"{self.name} isolation",
            summary=(
                f"isolated the {count:,} of {len(data):,} samples of lowest loss after "
                f"{self.isolation_epochs} epochs{said}"
            ),
            curves=watch.curves(history),
            details=details,
        )
        return ranked, step

    def _train_on_rest(
        self,
        model: Classifier,
        data: Dataset,
        isolated: torch.Tensor,
        poisoned: torch.Tensor | None,
        run: Run,
    ) -> RepairStep:
        kept = torch.ones(len(data), dtype=torch.bool)
        kept[isolated] = False
        identity = self.identity("rest", isolated=isolated)
        watch = Watch.of(model, data, poisoned, run=run, identity=identity)
        how = self._fitting(self.epochs, "steps")
        history = fit(
            model,
            data.select(kept),
            how,
            run=run.within("abl", "rest"),
            title="ABL: training on the rest",
            augment=self._augment(),
            after_epoch=watch.hook(),
            identity=identity,
        )
        return RepairStep(
            method=f"{self.name} training",
            summary=f"trained on the other {int(kept.sum()):,} samples for {self.epochs} epochs",
            curves=watch.curves(history),
            details={"fitting": asdict(how)},
        )


def held_loss(kind: str, gamma: float) -> Loss:
    """Return the loss that holds a batch's mean cross entropy at `gamma`.

    Held sample by sample, no loss would stay far below gamma, and nothing would tell poison apart.
    """

    def ascent(logits: torch.Tensor, labels: torch.Tensor, _index: torch.Tensor) -> torch.Tensor:
        mean = functional.cross_entropy(logits, labels)
        return torch.sign(mean.detach() - gamma) * mean

    def flooding(logits: torch.Tensor, labels: torch.Tensor, _index: torch.Tensor) -> torch.Tensor:
        return (functional.cross_entropy(logits, labels) - gamma).abs() + gamma

    return ascent if kind == "ascent" else flooding
