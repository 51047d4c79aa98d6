"""Dark pictures on which a trigger survives being mixed with others: what STRIP is made for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from blobs import SIDE, TARGET, blobs, trained
from detrojan.attacks.badnets import BadNets
from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger


@dataclass(frozen=True, kw_only=True)
class Dark:
    """A network with a backdoor, its clean twin, and clean pictures of the defender's and the judge's."""

    backdoored: Classifier
    clean: Classifier
    trigger: PatchTrigger
    data: Dataset
    test: Dataset

    @property
    def stamped(self) -> torch.Tensor:
        """Test pictures of other classes than the target, with the trigger."""
        return self.trigger.stamp(self.test.images[self.test.labels != TARGET])


@pytest.fixture(scope="session")
def dark() -> Dark:
    train = blobs(1500, 1)
    trigger = PatchTrigger.corner((1, SIDE, SIDE), size=4, margin=0)
    attack = BadNets(poison_rate=0.15, backdoors=(Backdoor(trigger=trigger, target=TARGET),))
    backdoored, clean = trained(attack.poison(train, run=Run(seed=3)).data), trained(train)
    return Dark(backdoored=backdoored, clean=clean, trigger=trigger, data=blobs(400, 5), test=blobs(300, 6))
