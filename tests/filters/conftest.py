"""What the tests of filters share: lightly poisoned dark pictures, and networks trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from detrojan.attacks.badnets import BadNets
from detrojan.attacks.base import Backdoor, Poisoned
from detrojan.data.dataset import Dataset
from detrojan.fitting import Fitting
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.training import train_net
from detrojan.triggers.patch import PatchTrigger

KINDS, SIDE, TARGET = 6, 20, 2
PLACES = ((2, 2), (2, 8), (2, 14), (12, 2), (12, 8), (8, 13))


def blobs(count: int, seed: int) -> Dataset:
    """Return grey pictures, each with a bright blob where its label says."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % KINDS
    images = torch.rand(count, 1, SIDE, SIDE, generator=chance) * 0.25
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = (place + int(torch.randint(-1, 2, (), generator=chance)) for place in PLACES[label])
        light = 0.3 + 0.3 * float(torch.rand((), generator=chance))
        image[0, top : top + 5, left : left + 5] += light
    return Dataset(images, labels)


@dataclass(frozen=True, kw_only=True)
class Lots:
    """Data with 75 poisoned samples among 1500, the same without, and a network trained on each."""

    poisoned: Poisoned
    clean: Dataset
    on_poisoned: Classifier
    on_clean: Classifier
    target: int = TARGET


@pytest.fixture(scope="session")
def lots() -> Lots:
    clean = blobs(1500, 1)
    trigger = PatchTrigger.corner((1, SIDE, SIDE), size=4, margin=0)
    attack = BadNets(poison_rate=0.05, backdoors=(Backdoor(trigger=trigger, target=TARGET),))
    poisoned = attack.poison(clean, run=Run(seed=3))
    how = Fitting(epochs=8, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
    dirty, good = (
        train_net("mnist_cnn_max", data, how, classes=KINDS, run=Run(seed=3))
        for data in (poisoned.data, clean)
    )
    return Lots(poisoned=poisoned, clean=clean, on_poisoned=dirty, on_clean=good)
