"""A backdoor: a trigger together with its aim; what attacks plant, scans suspect and repairs remove."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.errors import OptionError
from detrojan.models.classifier import Classifier
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger


@dataclass(frozen=True, init=False)
class Backdoor:
    """One trigger and what it makes a network answer.

    `Backdoor(trigger=patch, target=3)` is short for `Backdoor(trigger=patch, aim=Aim(target=3))`.

    Attributes:
        trigger: changes the images; as it is used against the trained network.
        aim: which images it moves, and where to.

    """

    trigger: Trigger
    aim: Aim

    def __init__(
        self,
        *,
        trigger: Trigger,
        aim: Aim | None = None,
        target: int | None = None,
        source: int | None = None,
        offset: int = 0,
    ) -> None:
        short = Aim(target=target, source=source, offset=offset)
        if aim is not None and short != Aim():
            raise OptionError(f"expected an aim, or a target, a source and an offset, got {aim} and {short}")
        object.__setattr__(self, "trigger", trigger)
        object.__setattr__(self, "aim", aim or short)

    def success(self, model: Classifier, images: torch.Tensor, truth: torch.Tensor) -> float:
        """Return the attack success rate on images (N, C, H, W) of true labels (N,), 0 to 1.

        Raises:
            LabelError: the aim moves none of the images.

        """
        return self.aim.success(model, self.trigger, images, truth)
