"""What the tests of filters share: lightly poisoned dark pictures, and networks trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from blobs import SIDE, TARGET, blobs, trained
from detrojan.attacks.badnets import BadNets
from detrojan.attacks.base import Poisoned
from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger


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
    return Lots(poisoned=poisoned, clean=clean, on_poisoned=trained(poisoned.data), on_clean=trained(clean))
