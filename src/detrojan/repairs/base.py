"""What every repair of a model shares."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError, OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Epoch, Fitting, Loss, fit
from detrojan.method import Method
from detrojan.metrics.input_range import check_input_range
from detrojan.metrics.leads import leads
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor

if TYPE_CHECKING:
    from detrojan.repairs.teaching import Teaching

#: a suspected target with more answers than this many times a label's usual share is doubted
USUAL = 2.0
#: probability above which an answer counts as sure
SURE = 0.9
#: fewer sure answers than this are no measure
FEWEST_SURE = 30
#: accuracy on its own images that a tuning may cost, and how often its rate is halved where it costs more
BEARABLE, HALVINGS = 0.05, 4


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A repaired copy and how it was made.

    Attributes:
        model: the repaired copy; the model that was given is unchanged.
        steps: what was done, in order.

    """

    model: Classifier
    steps: tuple[RepairStep, ...]


@dataclass(frozen=True, kw_only=True)
class Repair(Method, ABC):
    """Base of the repairs: each uses clean data and recovered triggers only, never the attacker's."""

    @abstractmethod
    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a repaired copy of `model`.

        `data` are clean images; where they carry no labels, the model's own answers stand in.
        `findings` are the flagged findings of a scan, each with its recovered trigger; none where nothing
        was looked for, which a repair that needs triggers refuses.
        """

    def needs_triggers(self) -> bool:
        """Return whether it can do nothing without a recovered trigger."""
        return False


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
            teaching: in the stead of the shifts and of the lesson's answers.
            how: in the stead of the plan's own way to train.
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


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What the repaired network shall answer on the clean images.

    Attributes:
        images: the clean images that are used, (N, C, H, W).
        truth: their labels, or the delivered network's answers, (N,).
        soft: the answer as a distribution, (N, K), the delivered network's own. A label that contradicts
            it is not taught, since a network learns such a label by heart where images are few, at the
            expense of all others, or in part only; but it is where the answer is a suspected target.
        corrected: where it is, (N,) bool.
        labelled: whether `truth` are labels that mean something to the network.
        judged: positions of the images on which clean accuracy is measured, (J,): all with labels;
            without, those that the delivered network was sure of.
        doubted: targets whose answers are not taught, because no label confirms them.

    """

    images: torch.Tensor
    truth: torch.Tensor
    soft: torch.Tensor
    corrected: torch.Tensor
    labelled: bool
    judged: torch.Tensor
    doubted: tuple[int, ...] = ()

    def dataset(self) -> Dataset:
        """Return the images with their hard answers."""
        return Dataset(self.images, self.truth)

    def kept(self, model: Classifier) -> float:
        """Return the share of the judged images that `model` answers with the truth, 0 to 1."""
        answers = model.answers(self.images[self.judged])
        return float((answers == self.truth[self.judged]).float().mean())


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


def lesson(model: Classifier, data: Dataset, targets: Sequence[int], *, correction: float = 0.0) -> Lesson:
    """Return what to teach: the delivered network's own answers, beside the labels where they fit.

    Suspected targets that a label contradicts are corrected. Any other answer that one contradicts is
    taught as a mixture, the label with a weight of `correction`, 0 to 1, the answer with the rest.

    Without labels, a suspected target that gets far more answers than a label usually does is
    doubted: nobody can tell which of its images belong there, so they are left out. One that gets
    no more than usual is taught like any other, or the repaired network would forget that class.

    Raises:
        DataError: images of another shape, or none left.
        LabelError: a target beyond the model's classes.

    """
    model.check(data.images)
    if beyond := [label for label in targets if not 0 <= label < model.num_classes]:
        raise LabelError(f"expected findings of labels 0 to {model.num_classes - 1}, got {beyond[0]}")
    soft = model.probabilities(data.images)
    answers = soft.argmax(1)
    truth = data.labels
    # the check looks at a sample: a label beyond the classes may have escaped it
    known = truth is not None and int(truth.max()) < model.num_classes
    if truth is not None and known and check_input_range(model, data).labels_fit:
        wrong = answers != truth
        suspected = torch.isin(answers, torch.tensor(targets, dtype=torch.int64))
        weight = torch.where(suspected, 1.0, correction) * wrong
        soft = soft.lerp(functional.one_hot(truth, model.num_classes).float(), weight[:, None])
        wrong = weight > 0
        everything = torch.arange(len(truth))
        return Lesson(
            images=data.images, truth=truth, soft=soft, corrected=wrong, labelled=True, judged=everything
        )
    doubted = _doubted(answers, targets)
    kept = ~torch.isin(answers, torch.tensor(doubted, dtype=torch.int64))
    if int(kept.sum()) < 2:
        raise DataError(
            "expected 2 or more images that the network does not answer with a suspected target, "
            f"got {int(kept.sum())} of {len(answers)}"
        )
    images, soft, truth = data.images[kept], soft[kept], answers[kept]
    judged = sure_of(soft)
    return Lesson(
        images=images,
        truth=truth,
        soft=soft,
        corrected=torch.zeros(len(truth), dtype=torch.bool),
        labelled=False,
        judged=judged,
        doubted=doubted,
    )


def _doubted(answers: torch.Tensor, targets: Sequence[int]) -> tuple[int, ...]:
    """Return the targets with more than `USUAL` times a used label's share, or most of all answers."""
    shares = torch.bincount(answers, minlength=max(targets, default=0) + 1).double() / len(answers)
    used = shares[shares > 0]
    in_use = float((-(used * used.log()).sum()).exp())
    return tuple(sorted({t for t in targets if float(shares[t]) > min(USUAL / in_use, 0.5)}))


def sure_of(soft: torch.Tensor) -> torch.Tensor:
    """Return the positions of the images whose answer has more than `SURE` probability.

    An answer that the network was not sure of says little when it changes. Where hardly any is
    sure, all positions are returned.
    """
    sure = (soft.amax(1) > SURE).nonzero().flatten()
    return sure if len(sure) >= FEWEST_SURE else torch.arange(len(soft))


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


def with_triggers(findings: Sequence[Finding], method: str) -> list[Backdoor]:
    """Return where the findings' triggers lead.

    Raises:
        OptionError: there are no findings, or one carries no trigger.

    """
    carrying = sum(finding.trigger is not None for finding in findings)
    if not carrying or carrying < len(findings):
        got = f"{carrying} of {len(findings)} with one" if findings else "no findings"
        raise OptionError(f"expected findings with a recovered trigger for {method}, got {got}")
    return leads(findings)


def worst_success(model: Classifier, triggers: Sequence[Backdoor], taught: Lesson) -> float:
    """Return the highest attack success among the triggers on the lesson's images, 0 to 1."""
    return max(lead.success(model, taught.images, taught.truth) for lead in triggers)


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


def times(count: int, what: str) -> str:
    """Return a count with its noun, e.g. "1 epoch" or "5 epochs"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
