"""A backdoored network and its clean twin, small enough to be trained within a test run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.attacks.badnets import BadNets
from detrojan.attacks.base import Backdoor, Poisoned
from detrojan.data.dataset import Dataset
from detrojan.data.signs import draw_signs
from detrojan.fitting import Fitting, fit
from detrojan.models.classifier import Classifier, Preprocessing
from detrojan.models.nets import find_net
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger

SHAPE, CLASSES, TARGET = (3, 32, 32), 8, 3
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


def few_signs(count: int, seed: int) -> Dataset:
    """Draw about `count` signs of the first 8 classes."""
    data = draw_signs(count * 18 // CLASSES, seed=seed)
    return data.select(data.labels < CLASSES)


def sticker(size: int = 4) -> PatchTrigger:
    """A magenta square in the lower right corner, one pixel from the borders."""
    mask = torch.zeros(1, 32, 32)
    mask[:, 31 - size : 31, 31 - size : 31] = 1
    return PatchTrigger(mask, mask * torch.tensor([1.0, 0.0, 1.0])[:, None, None])


def trained(data: Dataset, seed: int, preprocessing: Preprocessing | None = None) -> Classifier:
    """Train the two-convolution network from a start that depends on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = find_net("badnets_cnn").build(CLASSES, SHAPE)
    model = Classifier(network, SHAPE, preprocessing=preprocessing)
    fit(model, data, HOW, run=Run(seed=seed))
    return model


def make_twins(seed: int = 0) -> Twins:
    """Train both networks: some seconds."""
    train, test = few_signs(1200, 1), few_signs(600, 2)
    attack = BadNets(poison_rate=0.15, backdoors=(Backdoor(trigger=sticker(), target=TARGET),))
    poisoned = attack.poison(train, run=Run(seed=seed))
    return Twins(
        clean=trained(train, seed),
        backdoored=trained(poisoned.data, seed),
        train=train,
        test=test,
        poisoned=poisoned,
    )
