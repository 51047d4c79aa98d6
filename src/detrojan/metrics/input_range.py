"""Is the network fed what it was trained for? A wrong range makes every statistic lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing

#: ranges that networks are commonly trained on, tried beside the stated one
RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
#: images that are enough to tell ranges apart
IMAGES = 512
#: labels mean something for a network if it is right this many times as often as chance, or, with
#: few classes, half way between chance and always
CHANCE = 3.0
#: a stated range is doubted when another one is right this much more often
BETTER = 0.05
#: ... with this share of the errors at most
FEWER_ERRORS = 0.75
#: ... or, without labels, when another one gives this many times as many different answers
RICHER = 1.6
#: median distance of the two highest logits beyond which a network is saturated
SATURATED = 60.0
#: one answer for more than this share of all images is no classification
SWALLOWED = 0.6
#: ... unless the labels say the same, to within this
UNEVEN = 0.2


@dataclass(frozen=True, kw_only=True)
class RangeTrial:
    """How the network behaves when it is fed one range.

    Attributes:
        low: what black becomes.
        high: what white becomes.
        accuracy: share of labels met, 0 to 1, or None without usable labels.
        top_share: share of the most frequent answer, 0 to 1.
        effective_answers: exp of the answers' entropy: how many labels are really in use.
        confidence: mean probability of the answer, 0 to 1.
        margin: median distance between the two highest logits.

    """

    low: float
    high: float
    accuracy: float | None
    top_share: float
    effective_answers: float
    confidence: float
    margin: float

    @property
    def name(self) -> str:
        """The range as people write it, e.g. 0..255."""
        return f"{self.low:g}..{self.high:g}"


@dataclass(frozen=True, kw_only=True)
class RangeCheck:
    """The stated range beside others.

    Attributes:
        stated: the trial of the range that was stated.
        best: the trial that fits the network best; the stated one unless it is doubted.
        trials: all of them.
        warnings: empty where the stated range is plausible.
        labels_fit: whether the data's labels mean something to the network.

    """

    stated: RangeTrial
    best: RangeTrial
    trials: tuple[RangeTrial, ...]
    warnings: tuple[str, ...]
    labels_fit: bool

    @property
    def doubtful(self) -> bool:
        """Whether another range fits clearly better, or none gives a working classifier."""
        return bool(self.warnings)


def _trial(model: Classifier, data: Dataset, low: float, high: float) -> RangeTrial:
    preprocessing = replace(model.preprocessing, low=low, high=high)
    logits = model.with_preprocessing(preprocessing).all_logits(data.images)
    top = logits.topk(2, 1)
    answers = top.indices[:, 0]
    shares = torch.bincount(answers, minlength=model.num_classes).double() / len(answers)
    used = shares[shares > 0]
    accuracy = None
    if data.labels is not None and int(data.labels.max()) < model.num_classes:
        accuracy = float((answers == data.labels).double().mean())
    return RangeTrial(
        low=low,
        high=high,
        accuracy=accuracy,
        top_share=float(shares.max()),
        effective_answers=float((-(used * used.log()).sum()).exp()),
        confidence=float(logits.softmax(1).max(1).values.mean()),
        margin=float((top.values[:, 0] - top.values[:, 1]).median()),
    )


def check_input_range(model: Classifier, data: Dataset) -> RangeCheck:
    """Try the plausible input ranges side by side and say whether the stated one is the right one.

    Args:
        model: the network with its stated preprocessing.
        data: clean images, labelled or not.

    """
    some = data.select(torch.linspace(0, len(data) - 1, min(IMAGES, len(data))).long())
    now = (model.preprocessing.low, model.preprocessing.high)
    pairs = [now] if _normalised(model.preprocessing) else [now, *(r for r in RANGES if r != now)]
    trials = tuple(_trial(model, some, *pair) for pair in pairs)
    stated = trials[0]
    best_accuracy = max(trial.accuracy or 0.0 for trial in trials)
    needed = min(CHANCE / model.num_classes, (1 + 1 / model.num_classes) / 2)
    labels_fit = best_accuracy >= max(needed, 0.2)
    best = _best(trials, labels_fit=labels_fit)
    warnings = []
    if best is not stated:
        warnings.append(
            f"input range: the network is fed {stated.name}, but behaves as if trained on "
            f"{best.name} ({_compare(stated, best, labels_fit=labels_fit)}); "
            f"state it with --input-range {best.low:g}:{best.high:g}"
        )
    even = _top_share(some.labels) if labels_fit and some.labels is not None else 0.0
    if best.top_share > max(SWALLOWED, even + UNEVEN) and model.num_classes > 2:
        warnings.append(
            f"input range: whatever is fed, one label gets {best.top_share:.0%} of the answers; "
            "the preprocessing or the data do not fit this network"
        )
    return RangeCheck(
        stated=stated, best=best, trials=trials, warnings=tuple(warnings), labels_fit=labels_fit
    )


def with_best_range(model: Classifier, data: Dataset) -> tuple[Classifier, RangeCheck]:
    """Return the network fed the range that fits it best, and the check that said so.

    Only the range itself is tried: a mean and a standard deviation are in its units, so that a
    network that states them is returned as it is.

    Args:
        model: the network; the range that it states is one of those tried.
        data: clean images, labelled or not.

    """
    check = check_input_range(model, data)
    best = check.best
    if best is check.stated:
        return model, check
    fed = model.with_preprocessing(replace(model.preprocessing, low=best.low, high=best.high))
    return fed, check


def _top_share(labels: torch.Tensor) -> float:
    return float(labels.bincount().max()) / len(labels)


def _normalised(preprocessing: Preprocessing) -> bool:
    return preprocessing.mean != (0.0,) or preprocessing.std != (1.0,)


def _quality(trial: RangeTrial, *, labels_fit: bool) -> float:
    return (trial.accuracy or 0.0) if labels_fit else trial.effective_answers


def _abnormal(trial: RangeTrial, classes: float) -> bool:
    """Logits as far apart as only overfed networks have them, or hardly apart at all."""
    return trial.margin > SATURATED or trial.confidence < 2.0 / classes


def _best(trials: tuple[RangeTrial, ...], *, labels_fit: bool) -> RangeTrial:
    """Return the stated trial, unless another is clearly better."""
    stated = trials[0]
    best = max(trials, key=lambda trial: _quality(trial, labels_fit=labels_fit))
    gain = _quality(best, labels_fit=labels_fit)
    had = _quality(stated, labels_fit=labels_fit)
    better = gain > had + BETTER and 1 - gain < FEWER_ERRORS * (1 - had)
    clearly = better if labels_fit else gain > RICHER * had
    # a network without biases to speak of answers alike at any scale: its logits tell the scale
    classes = max(trial.effective_answers for trial in trials)
    if clearly:
        near = gain - BETTER if labels_fit else 0.8 * gain
        good = [trial for trial in trials if _quality(trial, labels_fit=labels_fit) >= near]
        return next((trial for trial in good if not _abnormal(trial, classes)), best)
    sane = [trial for trial in trials if not _abnormal(trial, classes)]
    close = [
        trial
        for trial in sane
        if _quality(trial, labels_fit=labels_fit) > (had - BETTER if labels_fit else 0.8 * had)
    ]
    if close and _abnormal(stated, classes):
        return max(close, key=lambda trial: _quality(trial, labels_fit=labels_fit))
    return stated


def _compare(stated: RangeTrial, best: RangeTrial, *, labels_fit: bool) -> str:
    def words(trial: RangeTrial) -> str:
        right = f"{trial.accuracy:.0%} right" if labels_fit and trial.accuracy is not None else ""
        used = f"{trial.effective_answers:.0f} labels in use"
        return ", ".join(part for part in (right or used, f"logit margin {trial.margin:.3g}") if part)

    return f"{words(stated)} against {words(best)}"
