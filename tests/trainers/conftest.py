"""What the tests of trainers share: poisoned signs, and a network that has learned nothing yet."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from detrojan.attacks.badnets import BadNets
from detrojan.attacks.base import Poisoned
from detrojan.data.dataset import Dataset
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from margins import shifted
from twins import CLASSES, LARGEST, TARGET, few_signs, sticker

#: how these small networks learn
HOW = {"learning_rate": 0.02, "batch_size": 32, "shift_pixels": 1}


@dataclass(frozen=True, kw_only=True)
class Suspect:
    clean: Dataset
    poisoned: Poisoned
    test: Dataset
    how = HOW

    @staticmethod
    def start(net: str = "badnets_cnn") -> Classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(shifted(0))
            return Classifier(find_net(net).build(CLASSES, LARGEST), LARGEST)

    def accuracy(self, model: Classifier) -> float:
        return clean_accuracy(model, self.test)

    def success(self, model: Classifier) -> float:
        trigger = self.poisoned.backdoors[0].trigger
        return attack_success(model, trigger, self.test.images, self.test.labels, TARGET)


@pytest.fixture(scope="session")
def suspect() -> Suspect:
    clean = few_signs(1200, 1, LARGEST)
    attack = BadNets(poison_rate=0.15, backdoors=(Backdoor(trigger=sticker(6, LARGEST), target=TARGET),))
    return Suspect(clean=clean, poisoned=attack.poison(clean, run=Run()), test=few_signs(500, 2, LARGEST))
