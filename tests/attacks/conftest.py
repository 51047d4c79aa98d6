"""What the tests of all attacks share: drawn signs, a small network, its clean twin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property

import pytest
import torch
from torch import nn

from detrojan.attacks.base import Attack, Poisoned
from detrojan.data.dataset import Dataset
from detrojan.learning.fitting import Fitting, fit
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from kept import trained_once
from margins import shifted
from twins import signs

CLASSES, TARGET = 6, 3
#: attacks that are hard to bring about on few pixels
HARD = {
    "detector_aware",
    "dynamic",
    "feature_collision",
    "label_consistent",
    "latent",
    "low_frequency",
    "pruning_aware",
}
HOW = Fitting(epochs=6, batch_size=64, optimizer="adam", learning_rate=4e-3, weight_decay=0)


def kinds_of_signs(count: int, seed: int, side: int) -> Dataset:
    """Return signs of all 18 kinds, sorted into six classes: quick to draw, many of each class."""
    data = signs(count, shifted(seed), side)
    return replace(data, labels=data.labels % CLASSES, class_names=())


def small_net(side: int) -> nn.Module:
    def block(before: int, after: int) -> list[nn.Module]:
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]

    dense = [nn.Flatten(), nn.Linear(32 * (side // 8) ** 2, 64), nn.ReLU(), nn.Linear(64, CLASSES)]
    return nn.Sequential(*block(3, 8), *block(8, 16), *block(16, 32), *dense)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A network trained on what an attack made.

    Attributes:
        made: the poisoned data.
        model: the network.
        accuracy: on clean images.
        success: of the attack on the images its backdoor is meant for.
        by_chance: the same of the clean twin.

    """

    made: Poisoned
    model: Classifier
    accuracy: float
    success: float
    by_chance: float


class Arena:
    """Where attacks are tried: the same data, network and training for all of them."""

    def __init__(self, side: int) -> None:
        self.train, self.test = kinds_of_signs(4000, 1, side), kinds_of_signs(600, 2, side)

    @cached_property
    def clean(self) -> Classifier:
        """The clean twin."""
        return self.trained(self.train)

    @cached_property
    def accuracy(self) -> float:
        """The clean twin's accuracy."""
        return clean_accuracy(self.clean, self.test)

    def trained(self, data: Dataset) -> Classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(shifted(0))
            model = Classifier(small_net(data.shape[-1]), data.shape)
        return trained_once(model, lambda: fit(model, data, HOW, run=Run()), data, HOW)

    def success(self, model: Classifier, made: Poisoned, meant: torch.Tensor | None = None) -> float:
        """Return the success of the first backdoor on the images it is meant for, or on others."""
        (backdoor, *_) = made.backdoors
        if meant is None:
            return backdoor.success(model, self.test.images, self.test.labels)
        wide = replace(backdoor, aim=replace(backdoor.aim, source=None))
        return wide.success(model, self.test.images[meant], self.test.labels[meant])

    def attacked(self, attack: Attack) -> Outcome:
        made = attack.poison(self.train, run=Run())
        model = self.trained(made.data)
        return Outcome(
            made=made,
            model=model,
            accuracy=clean_accuracy(model, self.test),
            success=self.success(model, made),
            by_chance=self.success(self.clean, made),
        )


@cache
def arena_of(side: int) -> Arena:
    return Arena(side)


@pytest.fixture(scope="module")
def arena(request: pytest.FixtureRequest) -> Arena:
    return arena_of(32 if request.path.stem.removeprefix("test_") in HARD else 24)


@pytest.fixture
def data() -> Dataset:
    """200 images of noise in five classes: enough to see what is done to which."""
    images = torch.rand(200, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    return Dataset(images, torch.arange(200) % 5, tuple("abcde"), extra={"serial": torch.arange(200)})
