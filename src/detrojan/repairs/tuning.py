"""Repairs that train a copy: how, at which rate, and what stays as it is."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, TypeVar

import torch

from detrojan.data.dataset import Dataset
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Epoch, Fitting, Loss, fit
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repair, Repaired
from detrojan.repairs.lessons import Lesson
from detrojan.repairs.teaching import Teaching
from detrojan.run import Run

#: accuracy on its own images that a tuning may cost, and how often its rate is halved where it costs more
BEARABLE, HALVINGS = 0.05, 4


@dataclass(frozen=True, kw_only=True)
class Tuning(Repair, ABC):
    """Base of the repairs that train a copy on clean data, at a small learning rate.

    A subclass states its own defaults and documents all fields.
    """

    epochs: int = 5
    learning_rate: float = 3e-4
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        self.fitting()

    def fitting(self) -> Fitting:
        """Return how to train: Adam, the rate falling to 0, batch norms as they were delivered."""
        return Fitting(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            optimizer="adam",
            weight_decay=0.0,
            frozen_norm=True,
        )

    def tune(
        self,
        model: Classifier,
        images: torch.Tensor,
        taught: Lesson,
        *,
        run: Run,
        title: str,
        shift_pixels: int = 0,
        teaching: Teaching | None = None,
        how: Fitting | None = None,
        beside: Callable[[], torch.Tensor] | None = None,
        depends: Mapping[str, object] | None = None,
    ) -> list[Epoch]:
        """Train `model` in place on the lesson's answers; what was pruned stays pruned.

        Args:
            model: a copy that may be changed.
            images: the lesson's images, some of them stamped, (N, C, H, W).
            taught: what to answer.
            run: device, seed, progress, checkpoint.
            title: what the progress shows.
            shift_pixels: random shifts of the images of up to so many pixels.
            teaching: used instead of the shifts and of the lesson's answers.
            how: used instead of the plan's own way to train.
            beside: called after each forward pass; what it returns is added to the loss.
            depends: what else the training depends on, as a training's identity takes it.

        """
        augment = shift(shift_pixels) if shift_pixels else None
        answers = soft_cross_entropy(taught.soft)
        if teaching is not None:
            augment, answers = teaching.functions(run)
        with pruned_stay_pruned(model):
            return fit(
                model,
                Dataset(images, taught.truth),
                how or self.fitting(),
                run=run,
                title=title,
                augment=augment,
                loss=answers if beside is None else _sum(answers, beside),
                identity=self.identity(
                    title,
                    soft=taught.soft,
                    teaching=None if teaching is None else teaching.identity(),
                    depends=dict(depends or {}),
                ),
            )

    def recorded(
        self, taught: Lesson, history: Sequence[Epoch], how: Fitting | None = None
    ) -> dict[str, Any]:
        """Return curves and details of a training, as a step of a repair has them."""
        return {
            "curves": {
                "epoch": [float(epoch.number) for epoch in history],
                "training loss": [epoch.loss for epoch in history],
            },
            "details": {"labelled": taught.labelled, "fitting": asdict(how or self.fitting())},
        }

    def slower(self, times: float) -> Self:
        """Return the same plan at a learning rate so many times lower."""
        return replace(self, learning_rate=self.learning_rate / times)


Rated = TypeVar("Rated", bound=Tuning)


def bearable(plan: Rated, taught: Lesson, before: float, attempt: Callable[[Rated], Repaired]) -> Repaired:
    """Return what `attempt` makes, at half of the plan's learning rate as often as it breaks the network.

    A rate that a wide network bears wrecks a narrow one with batch norms; it has broken the network where
    even the images that it was trained on are answered right less often, by more than `BEARABLE`, than
    `before`. After `HALVINGS` the last attempt is returned.
    """
    for halvings in range(HALVINGS + 1):
        made = attempt(plan.slower(2**halvings))
        if taught.kept(made.model) >= before - BEARABLE:
            break
    return made


def enough(epochs: int, updates: int, images: int, batch_size: int) -> int:
    """Return how many passes over so many images make `epochs` passes and `updates` updates at least."""
    return max(epochs, math.ceil(updates / max(1, images // batch_size)))


def soft_cross_entropy(soft: torch.Tensor) -> Loss:
    """Return the cross entropy against `soft` answers (N, K), found by the samples' positions."""

    def loss(logits: torch.Tensor, _labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        wanted = soft[index].to(logits.device)
        return -(wanted * logits.log_softmax(1)).sum(1).mean()

    return loss


def _sum(answers: Loss, beside: Callable[[], torch.Tensor]) -> Loss:
    def loss(logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return answers(logits, labels, index) + beside()

    return loss


@contextmanager
def pruned_stay_pruned(model: Classifier) -> Iterator[None]:
    """While the body trains, keep every weight that is exactly 0: pruning made it so."""
    handles = []
    for parameter in model.network.parameters():
        alive = (parameter.detach() != 0).to(parameter.dtype)
        if parameter.requires_grad and not bool(alive.all()):
            hook = parameter.register_hook(lambda slope, alive=alive: slope * alive)  # type: ignore[no-untyped-call]
            handles.append(hook)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
