"""What a network does when it is fed its images in one way or another: the trials, and what they measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import PRESETS, Preprocessing

#: networks of this side and less are more often trained on CIFAR than on ImageNet
SMALL_SIDE = 64
#: what is also tried with the colours the other way round
_REVERSED = ("unit", "bytes", "imagenet", "inception")
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, kw_only=True)
class RangeTrial:
    """How the network behaves when it is fed in one way.

    Attributes:
        low: what black becomes, before a mean is subtracted.
        high: what white becomes.
        accuracy: share of labels met, 0 to 1, or None without usable labels.
        top_share: share of the most frequent answer, 0 to 1.
        effective_answers: exp of the answers' entropy: how many labels are really in use.
        confidence: mean probability of the answer, 0 to 1.
        margin: median distance between the two highest logits.
        name: the way as people write it, e.g. 0..255 or imagenet.
        distance: how far what reaches the first batch norm is from what it saw in training: median over its
            channels of the Kullback-Leibler divergence of two normal distributions; None without that layer.
        flag: the option that states it.
        preprocessing: the way itself.
        right: which of the images are answered by their label, (N,) bool; None without usable labels.

    """

    low: float
    high: float
    accuracy: float | None
    top_share: float
    effective_answers: float
    confidence: float
    margin: float
    name: str
    distance: float | None
    flag: str
    preprocessing: Preprocessing
    right: torch.Tensor | None = field(default=None, repr=False)

    def facts(self) -> dict[str, Any]:
        """Return the figures, for a report."""
        left_out = ("preprocessing", "right", "flag")
        return {name: value for name, value in vars(self).items() if name not in left_out}


@dataclass(frozen=True)
class Way:
    """One way of feeding, with its name and the option that states it."""

    preprocessing: Preprocessing
    name: str
    flag: str


def ways(model: Classifier, *, every: bool = False) -> list[Way]:
    """Return what is worth a trial: what the model states first, then the commoner before the rarer.

    Args:
        model: the network with its stated preprocessing.
        every: try others also where a mean or a standard deviation is stated.

    """
    stated = model.preprocessing
    first = _way(stated)
    if stated.normalised and not every:
        return [first]
    found = [first]
    for name in _by_commonness(model):
        preset = PRESETS[name]
        if len(preset.mean) > 1 and model.input_shape[0] != len(preset.mean):
            continue
        kept = replace(preset, layout=stated.layout, framing=stated.framing)
        if stated.channels == "grey":
            kept = replace(kept, channels="grey")
        found.append(_way(kept, name))
    if model.input_shape[0] == 3:
        found += [
            _way(reversed_channels(way.preprocessing), name)
            for name in _REVERSED
            for way in found[1:]
            if way.preprocessing.channels == "RGB" and _alike(way.preprocessing, PRESETS[name])
        ]
    # the stated way is the first, and not tried twice
    return [first, *(way for way in found[1:] if way.preprocessing != stated)]


def is_range(way: Way, other: Way) -> bool:
    """Tell whether a way differs from another one by its range alone."""
    one, two = way.preprocessing, other.preprocessing
    return (one.mean, one.std, one.channels) == (two.mean, two.std, two.channels)


def _alike(one: Preprocessing, other: Preprocessing) -> bool:
    return (one.low, one.high, one.mean, one.std) == (other.low, other.high, other.mean, other.std)


def reversed_channels(preprocessing: Preprocessing) -> Preprocessing:
    """Return the same with the colours the other way round; mean and std stay with their colours."""
    return replace(
        preprocessing,
        channels="BGR" if preprocessing.channels == "RGB" else "RGB",
        mean=preprocessing.mean[::-1],
        std=preprocessing.std[::-1],
    )


def _by_commonness(model: Classifier) -> list[str]:
    """Return the names of the presets that can be meant, those first that the network's task suggests."""
    channels, height, width = model.input_shape
    names = [name for name in PRESETS if (name in ("mnist", "fashion_mnist")) <= (channels == 1)]
    likely = ["unit", "bytes"]
    if model.num_classes == 43:
        likely.append("gtsrb")
    if model.num_classes == 100:
        likely.append("cifar100")
    if channels == 1:
        likely.append("mnist")
    elif max(height, width) <= SMALL_SIDE:
        likely += ["cifar10", "cifar10_per_image"]
    return list(dict.fromkeys([*likely, *names]))


def _way(preprocessing: Preprocessing, preset: str = "") -> Way:
    """Name a way of feeding; a bare range goes by its ends."""
    ends = f"{preprocessing.low:g}..{preprocessing.high:g}"
    if not preprocessing.normalised:
        name, flag = ends, f"--input-range {preprocessing.low:g}:{preprocessing.high:g}"
    elif preset:
        name, flag = preset, f"--preprocess {preset}"
    else:
        name, flag = ends, ""
    turned = preprocessing.channels == "BGR" and preset != "caffe"
    return Way(preprocessing, f"{name} BGR" if turned else name, f"{flag} --bgr" if turned else flag)


def trial(model: Classifier, data: Dataset, way: Way) -> RangeTrial:
    """Feed the network in one way and measure its answers.

    Args:
        model: the network.
        data: clean images, labelled or not.
        way: how it is fed.

    """
    with _watched(nn.Identity() if model.answers_only else model.network) as seen:
        logits = model.with_preprocessing(way.preprocessing).all_logits(data.images)
    top = logits.topk(2, 1)
    answers = top.indices[:, 0]
    shares = torch.bincount(answers, minlength=model.num_classes).double() / len(answers)
    used = shares[shares > 0]
    right = None
    if data.labels is not None and int(data.labels.max()) < model.num_classes:
        right = answers == data.labels
    return RangeTrial(
        low=way.preprocessing.low,
        high=way.preprocessing.high,
        accuracy=None if right is None else float(right.double().mean()),
        top_share=float(shares.max()),
        effective_answers=float((-(used * used.log()).sum()).exp()),
        confidence=float(logits.softmax(1).max(1).values.mean()),
        margin=float((top.values[:, 0] - top.values[:, 1]).median()),
        name=way.name,
        distance=seen.distance(),
        flag=way.flag,
        preprocessing=way.preprocessing,
        right=right,
    )


class _Seen:
    """What has reached a batch norm: mean and variance per channel, summed up over batches."""

    def __init__(self, layer: nn.BatchNorm1d | nn.BatchNorm2d | None) -> None:
        self.layer = layer
        self.count = 0
        self.sums: torch.Tensor = torch.zeros(())
        self.squares: torch.Tensor = torch.zeros(())

    def add(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """Take in what a batch norm is fed (N, C, ...)."""
        flat = inputs[0].detach().transpose(0, 1).flatten(1).double()
        self.count += flat.shape[1]
        self.sums = self.sums + flat.sum(1).cpu()
        self.squares = self.squares + flat.square().sum(1).cpu()

    def distance(self) -> float | None:
        """Return how far that is from what the layer saw in training, or None."""
        if self.layer is None or not self.count or self.layer.running_mean is None:
            return None
        assert self.layer.running_var is not None
        mean = self.sums / self.count
        var = (self.squares / self.count - mean.square()).clamp(min=0) + self.layer.eps
        known = self.layer.running_var.detach().double().cpu() + self.layer.eps
        gap = (mean - self.layer.running_mean.detach().double().cpu()).square()
        apart = float((0.5 * ((known / var).log() + (var + gap) / known - 1)).median())
        return apart if apart == apart else None  # noqa: PLR0124 - a damaged layer says nothing


@contextmanager
def _watched(network: nn.Module) -> Iterator[_Seen]:
    """Watch what reaches the first batch norm of a network, if it has one."""
    layer = next((module for module in network.modules() if isinstance(module, _BATCH_NORM)), None)
    seen = _Seen(layer)
    if layer is None:
        yield seen
        return
    handle = layer.register_forward_pre_hook(seen.add)
    try:
        yield seen
    finally:
        handle.remove()
