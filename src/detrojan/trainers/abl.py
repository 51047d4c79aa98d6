"""Anti-backdoor learning: isolate what is learned too easily, train on the rest, unlearn the isolated."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import RepairStep
from detrojan.learning.augmentation import Augment, shift
from detrojan.learning.fitting import Epoch, Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.trainers.base import LateLosses, Trained, Trainer, Watch, checked, losses
from detrojan.trainers.halves import common_first, contradicted
from detrojan.trainers.holding import held_loss
from detrojan.trainers.lead import DOUBTFUL, doubts, lead
from detrojan.trainers.recovery import CLEAN, Recovery, answered
from detrojan.trainers.selection import followers
from detrojan.trainers.unlearning import FEW, Stage, Unlearning, isolated_right

#: samples are ranked by their losses after the last epochs of the isolation: this share of them, and so many
#: at least; an epoch now and then leaves a clean label too easy or the poison too hard, but not several do
RANKED_BY, RANKED_BY_AT_LEAST = 1 / 3, 3
#: the look at halves of images, where the losses have led to nothing
SECOND = Stage(
    name="second unlearning",
    what="isolated {count:,} samples instead, which mean another label once half of the image is replaced, "
    "and unlearned them",
)
#: so many times, at most, the samples are isolated too that lost their label with the isolated ones
FURTHER = 3


@dataclass(frozen=True, kw_only=True)
class ABL(Trainer):
    """Isolate the samples of lowest loss early in the training, train on the rest, unlearn the isolated.

    A backdoor is learned faster than the task. While the mean loss is held at `gamma`, poisoned samples reach
    a loss far below it, and clean ones do not. The samples of lowest loss are isolated. The network is
    trained on the rest. Then it climbs the loss of the isolated samples.

    Departures from the paper in the isolation:

    - It makes `isolation_updates` updates at least. On few samples 20 passes may end before the backdoor is
      learned, and clean samples are isolated instead.
    - Losses are measured in evaluation mode without augmentation, after each of the last third of the
      passes, three at least. What counts is the loss that a sample does not exceed after two thirds of them.
      The paper takes the last pass alone, and one pass may hit the poison or spare an easy label.

    Departures in the unlearning:

    - Other samples are kept right while it climbs. They are drawn from those whose losses were high both in
      the isolation and after it (30% of all, 10% of a label): poison has a low one at one of the two. Those
      of the isolated ones' labels have a weight of their own.
    - The climb has a slope where a sample is answered with certainty, ends at the loss of guessing, and
      leaves the statistics of batch norms alone.
    - It is undone if more than 80% of the isolated samples stay below the loss of guessing. It is also undone
      if it costs more than 2.5 points of accuracy on other samples of their labels, beyond chance (binomial
      test, error rate 5%). Those are the 30% of a label with the highest losses, less what was kept right.
      Where the isolation is not doubtful they are 15%, and 5 points are borne. What cannot be told from the
      other samples of its label is not poison.
    - Where the isolation is doubtful, what lost its label without being isolated is looked at as well. A copy
      of the network is trained for 100 updates on other samples, a tenth of the learning rate. Clean samples
      find their label again, and poison does not, as no sample shows its trigger. The unlearning is undone if
      at least half of the lost samples come back, and they are more than 1% of all, beyond chance.
    - Where it is undone, those samples are isolated and unlearned that mean another label with certainty once
      a half of the image is replaced by the other's mirror image: poison of the composite attack is no easier
      than clean samples. Labels that are rare among them are left out. It is undone by the same tests.
    - Fewer than 100 isolated samples may come of a few classes alone, and leave the backdoor to the others.
      Samples of their labels whose loss rises with theirs are isolated as well, and all are unlearned once
      more. This is done three times at most, and no more once half of what lost its label comes back. It is
      undone by the same rules, and left out where the isolation is doubtful.

    The result's warnings say where the isolation is doubtful: where the easiest samples of another label have
    less than five times the isolated ones' loss, or where the unlearning was undone. Clean data warn so too.

    Reference: Li et al., Anti-Backdoor Learning: Training Clean Models on Poisoned Data,
    NeurIPS 2021.

    Args:
        isolation_epochs: passes over the data before samples are isolated, at least; 1 or more (paper: 20).
        epochs: passes over the rest; 1 or more (paper: 60).
        unlearn_epochs: passes of unlearning over the isolated samples and those that are kept right;
            0 or more (the paper has 20 at most).
        isolation: how a batch's mean loss is held at gamma: "ascent" climbs below it (local gradient
            ascent), "flooding" turns the loss around there; both have the same slope.
        gamma: the mean loss that isolation holds; above 0.
        isolation_rate: share of the samples that is isolated, in (0, 1).
        isolation_updates: updates of the isolation, at least: where the data are so few that
            `isolation_epochs` passes make fewer, there are more passes; 0 or more.
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
    isolation_updates: int = 600
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
        if min(self.unlearn_epochs, self.isolation_updates, self.shift_pixels) < 0:
            raise OptionError(
                "expected unlearn_epochs, isolation_updates and shift_pixels of 0 or more, "
                f"got {self.unlearn_epochs}, {self.isolation_updates} and {self.shift_pixels}"
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

    def _recovery(self) -> Fitting:
        return replace(self._fitting(1), learning_rate=self.learning_rate / 10, frozen_norm=True)

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
            known, clear = losses(copy, data), first.details["lead"] >= DOUBTFUL
            unlearning = Unlearning(
                model=copy,
                data=data,
                how=self._unlearning(),
                recovery=Recovery(how=self._recovery(), augment=self._augment()),
                right=answered(copy, data),
                poisoned=poisoned,
                run=run,
                identity=self.identity,
            )
            steps.append(unlearning.step(ranked, count, known, Stage(clear=clear, asks=not clear)))
            if again := bool(steps[-1].details["undone"]):
                # what was undone has left no trace: the losses still hold
                looked = common_first(
                    contradicted(copy, data, known), count, data.require_labels("a second look")
                )
                steps.append(unlearning.step(looked, count, known, SECOND))
                clear = not steps[-1].details["undone"]
                if clear:
                    ranked, isolated = looked, looked[:count].clone()
            if clear and count < FEW:
                isolated, more = self._go_on(unlearning, ranked, count, known, asks=again)
                steps += more
        return Trained(model=copy, isolated=isolated, steps=tuple(steps), warnings=doubts(steps))

    def _go_on(
        self, unlearning: Unlearning, ranked: torch.Tensor, count: int, known: torch.Tensor, *, asks: bool
    ) -> tuple[torch.Tensor, list[RepairStep]]:
        """Unlearn what forgot its label with the isolated samples too; return all that was unlearned."""
        model, data = unlearning.model, unlearning.data
        labels, guess = data.require_labels("unlearning"), math.log(model.num_classes)
        every, steps = ranked[:count].clone(), list[RepairStep]()
        for _ in range(FURTHER):
            now = losses(model, data)
            more = followers(every, labels, known, now, guess)
            if not len(more):
                break
            wider = torch.cat([every, more[now[more].argsort(descending=True, stable=True)]])
            stage = Stage(
                name="further unlearning",
                what=f"isolated {len(more):,} more samples, which forgot their label with these, and "
                "unlearned all {count:,}",
                sign="",
                clear=True,
                asks=asks,
            )
            ranks = torch.cat([wider, ranked[~torch.isin(ranked, wider)]])
            steps.append(unlearning.step(ranks, len(wider), now, stage))
            if steps[-1].details["undone"]:
                break
            every = wider
            if steps[-1].details.get("found again", 0.0) >= CLEAN:
                break
        return every, steps

    def _passes(self, samples: int) -> int:
        """Return how many passes over so many samples the isolation makes."""
        batches = max(1, samples // min(self.batch_size, samples))
        return max(self.isolation_epochs, math.ceil(self.isolation_updates / batches))

    def _isolate(
        self, model: Classifier, data: Dataset, count: int, poisoned: torch.Tensor | None, run: Run
    ) -> tuple[torch.Tensor, RepairStep]:
        identity = self.identity("isolation")
        watch = Watch.of(model, data, poisoned, run=run, identity=identity)
        how = self._fitting(self._passes(len(data)))
        ranking = max(RANKED_BY_AT_LEAST, math.ceil(RANKED_BY * how.epochs))
        first = how.epochs - ranking + 1
        late = LateLosses(model=model, data=data, run=run, first=first, identity=identity)
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
        found = late.upper()
        ranked = found.argsort(stable=True)
        isolated = ranked[:count]
        details = {
            "fitting": asdict(how),
            "isolated": count,
            "highest isolated loss": float(found[isolated[-1]]),
            "lead": lead(found, data.require_labels("isolating"), isolated),
        } | isolated_right(isolated, poisoned)
        said = f"; {details['precision']:.1%} of them are poisoned" if "precision" in details else ""
        step = RepairStep(
            method=f"{self.name} isolation",
            summary=(
                f"isolated the {count:,} of {len(data):,} samples of lowest loss after "
                f"{how.epochs} epochs{said}"
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
