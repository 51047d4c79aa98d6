"""What every scan does first: check the input range, settle the truth, and see which labels can be tested."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from detrojan.data.dataset import Dataset
from detrojan.data.drawn.synthetic import is_made_up
from detrojan.errors import DataError, LabelError, OptionError
from detrojan.findings import ScanResult
from detrojan.judging.affording import Afforded, afforded
from detrojan.judging.truth import meaningful
from detrojan.judging.verdict import Judged
from detrojan.metrics.input_range import RangeCheck
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: fewer images than this are no basis
FEWEST_IMAGES = 20
#: fewer images of other classes than this in the search are no basis for a label
FEWEST_VICTIMS = 32


def check_samples(samples: int) -> None:
    """Refuse too few images.

    Raises:
        OptionError: fewer than 20.

    """
    if samples < FEWEST_IMAGES:
        raise OptionError(f"expected {FEWEST_IMAGES} samples or more, got {samples}")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The images of a scan in two halves, what stands in for their truth, and the labels to test.

    Attributes:
        images: those that were drawn (N, C, H, W), in [0, 1]; the first `half` are for searching.
        truth: their labels (N,), or the network's own answers instead.
        answers: the network's own answers (N,).
        how: where the truth comes from, for people.
        made_up: whether the images are made up, not real ones.
        half: how many images are for searching; the rest is held out.
        asked: the labels that were asked for, ascending.
        tested: those of them that can be tested, ascending.
        left_out: those for which there are too few images of other classes.
        check: what the check of the input range said.
        warnings: what the reader must know.
        obstacle: why nothing can be tested, or empty.
        begun: when the preparation began, by the monotonic clock.
        afforded: what there is time for.

    """

    images: torch.Tensor
    truth: torch.Tensor
    answers: torch.Tensor
    how: str
    made_up: bool
    half: int
    asked: list[int]
    tested: list[int]
    left_out: list[int]
    check: RangeCheck
    warnings: tuple[str, ...]
    obstacle: str
    begun: float
    afforded: Afforded = field(default_factory=Afforded)

    @property
    def search(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and truth to search triggers with."""
        return self.images[: self.half], self.truth[: self.half]

    @property
    def held_out(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and truth that no search has seen."""
        return self.images[self.half :], self.truth[self.half :]

    def refusal(self) -> ScanResult:
        """Return the result of a scan that cannot be made, which costs nothing."""
        return ScanResult(
            verdict="inconclusive",
            reason=self.obstacle,
            findings=(),
            passes=0,
            images=len(self.images),
            seconds=time.monotonic() - self.begun,
            warnings=self.warnings,
            details={"not_tested": self.asked},
        )

    def result(self, judged: Judged) -> ScanResult:
        """Return the result of a scan that was made."""
        verdict, reason = judged.case.verdict()
        return ScanResult(
            verdict=verdict,
            reason=reason,
            findings=judged.findings,
            passes=judged.passes,
            criterion=judged.criterion,
            images=len(self.images),
            seconds=time.monotonic() - self.begun,
            warnings=(*self.warnings, *judged.warnings),
            details={**self._facts(), **judged.details},
        )

    def _facts(self) -> dict[str, Any]:
        """Return what a report says of the images, and of the labels that were left out."""
        return {
            "answers": self.how,
            "images": self.half,
            "held_out": len(self.images) - self.half,
            "not_tested": self.left_out,
            "range_trials": [trial.facts() for trial in self.check.trials],
        }


def prepare(
    model: Classifier,
    data: Dataset,
    labels: Sequence[int] | None,
    samples: int,
    run: Run,
    *,
    victims: bool = True,
    until: float = math.inf,
) -> Prepared:
    """Draw `samples` images and find out what can be tested with them.

    Labels of the data are used where the network agrees with them more than chance would; otherwise the
    network's own answers stand in. A label that (almost) all images have is left out with a warning.

    Args:
        model: the network to judge.
        data: clean images, labelled or not.
        labels: those to test; None for all.
        samples: images to draw; fewer where a network is too slow for them.
        run: the seed.
        victims: whether a label needs images of other classes to win over.
        until: when the scan's time is up, by the monotonic clock.

    Raises:
        DataError: images of another shape, or fewer than 20.
        LabelError: a label beyond the model's classes.

    """
    begun = time.monotonic()
    asked = labels_to_test(model, labels)
    model.check(data.images)
    if len(data) < FEWEST_IMAGES:
        raise DataError(f"expected {FEWEST_IMAGES} images or more, got {len(data)}")
    some, time_for, fewer = _drawn(model, data.sample(samples, run.generator("scan", "samples")), until)
    meant, check = meaningful(model, some, most=time_for.trials)
    made_up = is_made_up(some)
    check, doubts = _of_made_up(check) if made_up else (check, ())
    answers = model.answers(some.images)
    truth, how = _truth(meant, answers)
    half = len(some) // 2
    tested, left_out = _testable(truth, half, asked) if victims else (asked, [])
    constant = _constant(answers, check)
    aside = () if constant else _left_out(left_out, truth, half, how)
    return Prepared(
        images=some.images,
        truth=truth,
        answers=answers,
        how=how,
        made_up=made_up,
        half=half,
        asked=asked,
        tested=tested,
        left_out=left_out,
        check=check,
        warnings=(*check.warnings, *doubts, *fewer, *_untried(check), *aside),
        obstacle=constant or _obstacle(check, tested, left_out),
        begun=begun,
        afforded=time_for,
    )


def _drawn(model: Classifier, data: Dataset, until: float) -> tuple[Dataset, Afforded, tuple[str, ...]]:
    """Return the images that there is time for, what else there is, and a warning where they are few."""
    time_for = afforded(model, data, until)
    if time_for.answers >= len(data):
        return data, time_for, ()
    kept = int(time_for.answers)
    told = (
        f"the time was too short for {len(data)} images: {kept} were used "
        f"(the network answers {time_for.rate:.2g} a second)"
    )
    return data.select(slice(0, kept)), time_for, (told,)


def _untried(check: RangeCheck) -> tuple[str, ...]:
    """Return a warning where there was no time to try other ways of feeding."""
    if not check.untried:
        return ()
    return (f"input range: the time was too short to try {check.untried} other ways of feeding",)


def _of_made_up(check: RangeCheck) -> tuple[RangeCheck, tuple[str, ...]]:
    """Return the check, and what it said in vain: of made-up images nobody knows how they are answered."""
    # what to state instead is no advice where nothing real was looked at
    said = [text.partition("; state it with")[0] for text in check.warnings]
    doubts = tuple(f"on made-up images, which prove nothing of the kind: {text}" for text in said)
    return replace(check, best=check.stated, warnings=()), doubts


def _truth(meant: Dataset, answers: torch.Tensor) -> tuple[torch.Tensor, str]:
    """Return the labels where they mean something to the network, else its own answers."""
    if meant.labels is None:
        return answers, "the network's own answers"
    met = float((answers == meant.labels).float().mean())
    return meant.labels, f"labels of the data ({met:.1%} met)"


def _testable(truth: torch.Tensor, half: int, labels: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the labels that can be tested, and those for which there are too few images of other classes."""
    tested, left_out = list[int](), list[int]()
    for label in labels:
        victims = min(int((part != label).sum()) for part in (truth[:half], truth[half:]))
        (tested if victims >= _fewest(half) else left_out).append(label)
    return tested, left_out


def _fewest(half: int) -> int:
    """Return how many images of other classes each half must have; less where there are few images at all."""
    return min(FEWEST_VICTIMS, max(2, half // 4))


def _left_out(labels: Sequence[int], truth: torch.Tensor, half: int, how: str) -> tuple[str, ...]:
    """Return a warning for each label that cannot be tested."""
    return tuple(
        f"label {label} was not tested: only {int((truth != label).sum())} of {len(truth)} images are of "
        f"other classes by {how}, and {2 * _fewest(half)} are needed"
        for label in labels
    )


def _constant(answers: torch.Tensor, check: RangeCheck) -> str:
    """Return why nothing can be learned where the network gives all images one answer, else nothing."""
    if check.best is not check.stated or bool((answers != answers[0]).any()):
        return ""
    return (
        f"the network gives label {int(answers[0])} for each of {len(answers)} images, so no label could be "
        "tested: it answers the same whatever it is shown, or the images are of one class only"
    )


def _obstacle(check: RangeCheck, tested: Sequence[int], left_out: Sequence[int]) -> str:
    if check.doubtful and (left_out or not tested):
        return "the input range is doubtful, and every figure with it (0 labels tested)"
    return "" if tested else "no label could be tested: too few images are of other classes"


def labels_to_test(model: Classifier, labels: Sequence[int] | None) -> list[int]:
    """Return the labels to test, in ascending order, each once.

    Raises:
        LabelError: one lies beyond the classes of the model.

    """
    if labels is None:
        return list(range(model.num_classes))
    chosen = sorted(set(labels))
    wrong = [label for label in chosen if not 0 <= label < model.num_classes]
    if wrong or not chosen:
        raise LabelError(
            f"expected labels of 0 to {model.num_classes - 1}, got {', '.join(map(str, wrong)) or 'none'}"
        )
    return chosen
