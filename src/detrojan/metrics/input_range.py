"""Is the network fed what it was trained for? A wrong range or mean makes every statistic lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from detrojan.data.dataset import Dataset
from detrojan.metrics.feeding import RangeTrial, is_range, trial, ways
from detrojan.models.classifier import Classifier

#: images that are enough to tell ways of feeding apart, and those where each takes long to answer
IMAGES, IMAGES_OF_LARGE = 512, 192
#: images of more pixels than this take long
LARGE_PIXELS = 96 * 96
#: fewer images than this do not tell ways of feeding apart
FEWEST_IMAGES = 32
#: labels mean something for a network if it is right this many times as often as chance, or, with
#: few classes, half way between chance and always
CHANCE = 3.0
#: a stated way is doubted when another one is right this much more often
BETTER = 0.05
#: ... with this share of the errors at most
FEWER_ERRORS = 0.75
#: ... and so much seldomer by chance (McNemar's exact test, shared among the other ways)
SIGNIFICANCE = 0.01
#: ways that are not worse than the best by this level are ties, of which the commoner is taken
TIE = 0.05
#: ... or, without labels, when another one gives this many times as many different answers
RICHER = 1.6
#: ... ways that give this share of the most are ties
AS_RICH = 0.93
#: ... or when batch norm finds itself this near to what it was trained on with another way,
NEAR = 0.02
#: and this many times as far off with the stated one
FARTHER = 10.0
#: median distance of the two highest logits beyond which a network is saturated
SATURATED = 60.0
#: one answer for more than this share of all images is no classification
SWALLOWED = 0.6
#: ... unless the labels say the same, to within this
UNEVEN = 0.2
#: where the stated way meets this share of what the best one meets, or less, a network is clearly fed wrongly
CLEARLY = 0.75


@dataclass(frozen=True, kw_only=True)
class RangeCheck:
    """The stated way of feeding beside others.

    Attributes:
        stated: the trial of what was stated.
        best: the trial that fits the network best; the stated one unless it is doubted.
        trials: all of them; only the stated one where no other could be clearly better.
        warnings: empty where what is stated is plausible.
        labels_fit: whether the data's labels mean something to the network.
        untried: ways that would have been tried if there had been time.

    """

    stated: RangeTrial
    best: RangeTrial
    trials: tuple[RangeTrial, ...]
    warnings: tuple[str, ...]
    labels_fit: bool
    untried: int = 0

    @property
    def doubtful(self) -> bool:
        """Whether another way fits clearly better, or none gives a working classifier."""
        return bool(self.warnings)

    @property
    def clearly_wrong(self) -> bool:
        """Whether the labels say beyond doubt that the network is fed wrongly."""
        if not self.labels_fit or self.best is self.stated:
            return False
        return (self.stated.accuracy or 0.0) <= CLEARLY * (self.best.accuracy or 0.0)


def check_input_range(
    model: Classifier, data: Dataset, *, every: bool = False, ranges: bool = False, most: float = math.inf
) -> RangeCheck:
    """Try the usual ways of feeding side by side and say whether the stated one is the right one.

    With labels that mean something to the network its accuracy decides, by McNemar's exact test. Without
    labels, what its first batch norm sees decides, or else how many different answers it gives.

    Args:
        model: the network with its stated preprocessing.
        data: clean images, labelled or not.
        every: try all ways, also where a mean is stated, and where the stated way leaves no doubt.
        ranges: try other ranges only, no mean and no other order of colours.
        most: images that all ways together may be tried with; where these are too few for all, only the
            stated one is tried.

    """
    pixels = model.input_shape[1] * model.input_shape[2]
    count = min(IMAGES if pixels <= LARGE_PIXELS else IMAGES_OF_LARGE, len(data), most)
    some = _spread(data, int(count))
    first, *others = ways(model, every=every)
    if ranges:
        others = [way for way in others if is_range(way, first)]
    stated = trial(model, some, first)
    if not others or not (every or _open(stated, model.num_classes)):
        return judge((stated,), some, model.num_classes)
    fewer = int(min(count, (most - count) // len(others)) if math.isfinite(most) else count)
    if fewer < min(count, FEWEST_IMAGES):
        return replace(judge((stated,), some, model.num_classes), untried=len(others))
    if fewer < count:
        some = _spread(some, fewer)
        stated = trial(model, some, first)
    trials = (stated, *(trial(model, some, way) for way in others))
    return judge(trials, some, model.num_classes)


def _spread(data: Dataset, count: int) -> Dataset:
    return data.select(torch.linspace(0, len(data) - 1, count).long())


def judge(trials: tuple[RangeTrial, ...], data: Dataset, classes: int) -> RangeCheck:
    """Return what the trials say; the first is of what was stated.

    Args:
        trials: on the same images, the commoner ways before the rarer.
        data: these images.
        classes: number of classes.

    """
    stated = trials[0]
    labels_fit = _labels_fit(trials, len(data), classes)
    best, ties = _best(trials, labels_fit=labels_fit)
    warnings = []
    if best is not stated:
        warnings.append(_doubt(stated, best, ties, labels_fit=labels_fit))
    even = _top_share(data.labels) if labels_fit and data.labels is not None else 0.0
    if best.top_share > max(SWALLOWED, even + UNEVEN) and classes > 2:
        warnings.append(
            f"input range: whatever is fed, one label gets {best.top_share:.0%} of the answers; "
            "the preprocessing or the data do not fit this network"
        )
    return RangeCheck(
        stated=stated, best=best, trials=trials, warnings=tuple(warnings), labels_fit=labels_fit
    )


def with_best_range(
    model: Classifier, data: Dataset, *, every: bool = False, ranges: bool = False
) -> tuple[Classifier, RangeCheck]:
    """Return the network fed the way that fits it best, and the check that said so.

    Args:
        model: the network; the way that it states is one of those tried.
        data: clean images, labelled or not.
        every: try others also where a mean or a standard deviation is stated.
        ranges: try other ranges only, no mean and no other order of colours.

    """
    every = every or not model.preprocessing.normalised
    check = check_input_range(model, data, every=every, ranges=ranges)
    if check.best is check.stated:
        return model, check
    return model.with_preprocessing(check.best.preprocessing), check


def _open(stated: RangeTrial, classes: int) -> bool:
    """Tell whether another way could still be clearly better than the stated one."""
    if _abnormal(stated, classes) or stated.top_share > SWALLOWED:
        return True
    if stated.accuracy is None:
        return RICHER * stated.effective_answers < classes
    return stated.accuracy + BETTER < 1


def _labels_fit(trials: tuple[RangeTrial, ...], images: int, classes: int) -> bool:
    """Tell whether the labels are met more often than chance would, with the best of the ways."""
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    met = max(trial.accuracy or 0.0 for trial in trials)
    if met < max(min(CHANCE / classes, (1 + 1 / classes) / 2), 0.2):
        return False
    by_chance = float(special.bdtrc(round(met * images) - 1, images, 1 / classes))
    return by_chance < SIGNIFICANCE / len(trials)


def _top_share(labels: torch.Tensor) -> float:
    return float(labels.bincount().max()) / len(labels)


def _quality(trial: RangeTrial, *, labels_fit: bool) -> float:
    return (trial.accuracy or 0.0) if labels_fit else trial.effective_answers


def _abnormal(trial: RangeTrial, classes: float) -> bool:
    """Logits as far apart as only overfed networks have them, or hardly apart at all."""
    return trial.margin > SATURATED or trial.confidence < 2.0 / classes


def _by_luck(better: RangeTrial, worse: RangeTrial) -> float:
    """Return how likely luck alone makes one way meet so many more labels (McNemar, exact, one-sided)."""
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    assert better.right is not None
    assert worse.right is not None
    won = int((better.right & ~worse.right).sum())
    lost = int((worse.right & ~better.right).sum())
    return float(special.bdtrc(won - 1, won + lost, 0.5)) if won + lost else 1.0


def _best(trials: tuple[RangeTrial, ...], *, labels_fit: bool) -> tuple[RangeTrial, list[RangeTrial]]:
    """Return the stated trial unless another is clearly better, and all trials that equal that one."""
    stated, *others = trials
    # a network without biases to speak of answers alike at any scale: its logits tell the scale
    classes = max(trial.effective_answers for trial in trials)
    better = _better(stated, others, classes, labels_fit=labels_fit)
    if not better and _abnormal(stated, classes):
        had = _quality(stated, labels_fit=labels_fit)
        least = had - BETTER if labels_fit else 0.8 * had
        better = [
            trial
            for trial in others
            if not _abnormal(trial, classes) and _quality(trial, labels_fit=labels_fit) > least
        ]
    if not better:
        return stated, []
    ties = _ties(better, labels_fit=labels_fit)
    sane = [trial for trial in ties if not _abnormal(trial, classes)] or ties
    return _nearest(sane), sane


def _better(
    stated: RangeTrial, others: list[RangeTrial], classes: float, *, labels_fit: bool
) -> list[RangeTrial]:
    """Return those that are clearly better than what was stated."""
    if labels_fit:
        had = stated.accuracy or 0.0
        return [
            trial
            for trial in others
            if (gain := trial.accuracy or 0.0) > had + BETTER
            and 1 - gain < FEWER_ERRORS * (1 - had)
            and _by_luck(trial, stated) < SIGNIFICANCE / len(others)
        ]
    if stated.distance is not None:
        near = [trial for trial in others if trial.distance is not None and trial.distance < NEAR]
        if near and stated.distance > max(NEAR, FARTHER * min(t.distance or 0.0 for t in near)):
            return near
        if stated.distance < NEAR:
            return []
    enough = RICHER * stated.effective_answers
    return [trial for trial in others if trial.effective_answers > enough and not _abnormal(trial, classes)]


def _ties(better: list[RangeTrial], *, labels_fit: bool) -> list[RangeTrial]:
    """Return those that no other one clearly beats, the commoner first."""
    best = max(better, key=lambda trial: _quality(trial, labels_fit=labels_fit))
    if labels_fit:
        return [trial for trial in better if trial is best or _by_luck(best, trial) >= TIE]
    return [trial for trial in better if trial.effective_answers >= AS_RICH * best.effective_answers]


def _nearest(ties: list[RangeTrial]) -> RangeTrial:
    """Return the first of them, unless batch norm tells that another one is what it was trained on."""
    known = [trial for trial in ties if trial.distance is not None]
    if not known:
        return ties[0]
    least = min(trial.distance or 0.0 for trial in known)
    return next(trial for trial in known if (trial.distance or 0.0) <= 2 * least + NEAR / 10)


def _doubt(stated: RangeTrial, best: RangeTrial, ties: list[RangeTrial], *, labels_fit: bool) -> str:
    """Say what fits better, and how it is stated."""
    what = "preprocessing" if best.preprocessing.normalised else "input range"
    also = [trial.name for trial in ties if trial is not best][:3]
    others = f"; {', '.join(also)} fit{'' if len(also) > 1 else 's'} about as well" if also else ""
    if also and not labels_fit:
        others += ", and only labels tell which is right"
    return (
        f"{what}: the network is fed {stated.name}, but behaves as if trained on "
        f"{best.name} ({_compare(stated, best, labels_fit=labels_fit)}); state it with {best.flag}{others}"
    )


def _compare(stated: RangeTrial, best: RangeTrial, *, labels_fit: bool) -> str:
    def words(trial: RangeTrial) -> str:
        right = f"{trial.accuracy:.0%} right" if labels_fit and trial.accuracy is not None else ""
        used = f"{trial.effective_answers:.0f} labels in use"
        return ", ".join(part for part in (right or used, f"logit margin {trial.margin:.3g}") if part)

    return f"{words(stated)} against {words(best)}"
