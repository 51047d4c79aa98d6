"""What a repaired network shall answer: the delivered network's answers, and labels where they contradict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError
from detrojan.judging.truth import meaningful
from detrojan.models.classifier import Classifier

#: a suspected target with more answers than this many times a label's usual share is doubted
USUAL = 2.0
#: probability above which an answer counts as sure
SURE = 0.9
#: fewer sure answers than this are no measure
FEWEST_SURE = 30


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
    truth = meaningful(model, data)[0].labels
    if truth is not None:
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
