"""A backdoored network and its clean twin, small enough to be trained within a test run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache

import torch

from detrojan.attacks.badnets import BadNets
from detrojan.attacks.base import Poisoned
from detrojan.data.dataset import Dataset
from detrojan.data.drawn.signs import SIGNS, draw_signs
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger
from kept import kept, trained_once
from margins import shifted

SHAPE, CLASSES, TARGET = (3, 24, 24), 8, 3
#: for what is harder to bring about than to find: repairs, and training without the backdoor
LARGE, LARGEST = (3, 28, 28), (3, 32, 32)
HOW = Fitting(epochs=12, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Two networks that differ in the training data's poison alone.

    Attributes:
        clean: trained on `train`.
        backdoored: trained on `poisoned`.
        train: 1200 signs of 8 classes.
        test: 600 others.
        poisoned: the training data with their poison.

    """

    clean: Classifier
    backdoored: Classifier
    train: Dataset
    test: Dataset
    poisoned: Poisoned

    @property
    def trigger(self) -> PatchTrigger:
        """The attacker's trigger: for judging only."""
        trigger = self.poisoned.backdoors[0].trigger
        assert isinstance(trigger, PatchTrigger)
        return trigger


def signs(count: int, seed: int, side: int) -> Dataset:
    """Return what `draw_signs` draws: one process of a test run draws it, the others read it."""

    def draw() -> dict[str, torch.Tensor]:
        data = draw_signs(count, seed=seed, size=side)
        return {"pixels": (data.images * 255).round().to(torch.uint8), "labels": data.require_labels("-")}

    found = kept("signs", draw, count, seed, side)
    pixels, labels = found["pixels"], found["labels"]
    digest = hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    names = tuple(SIGNS)
    return Dataset(pixels.float() / 255, labels, class_names=names, source="signs", sha256=digest)


@cache
def few_signs(count: int, seed: int, shape: tuple[int, int, int] = SHAPE) -> Dataset:
    """Return about `count` signs of the first 8 classes."""
    data = signs(count * 18 // CLASSES, shifted(seed), shape[-1])
    return data.select(data.labels < CLASSES)


def sticker(size: int, shape: tuple[int, int, int] = SHAPE) -> PatchTrigger:
    """A magenta square in the lower right corner, one pixel from the borders."""
    end = shape[-1] - 1
    mask = torch.zeros(1, *shape[1:])
    mask[:, end - size : end, end - size : end] = 1
    return PatchTrigger(mask, mask * torch.tensor([1.0, 0.0, 1.0])[:, None, None])


def trained(data: Dataset, seed: int, preprocessing: Preprocessing | None = None) -> Classifier:
    """Train the two-convolution network from a start that depends on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(seed))
        network = find_net("badnets_cnn").build(CLASSES, data.shape)
    model = Classifier(network, data.shape, preprocessing=preprocessing)
    # signs of few pixels take longer to learn
    how = HOW if data.shape == LARGE else replace(HOW, epochs=16)
    return trained_once(
        model, lambda: fit(model, data, how, run=Run(seed=seed)), data, how, seed, preprocessing
    )


def make_twins(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Twins:
    """Train both networks: some seconds."""
    train, test = few_signs(1200, 1, shape), few_signs(600, 2, shape)
    trigger = sticker(-(-shape[-1] // 8), shape)
    # few pixels take more poison to be learned as surely
    rate = 0.15 if shape == LARGE else 0.2
    attack = BadNets(poison_rate=rate, backdoors=(Backdoor(trigger=trigger, target=TARGET),))
    poisoned = attack.poison(train, run=Run(seed=seed))
    return Twins(
        clean=trained(train, seed),
        backdoored=trained(poisoned.data, seed),
        train=train,
        test=test,
        poisoned=poisoned,
    )
