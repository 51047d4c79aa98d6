"""What every attack on training data gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from detrojan.data.dataset import Dataset
from detrojan.method import Method
from detrojan.run import Run
from detrojan.triggers.base import Trigger


@dataclass(frozen=True, kw_only=True)
class Backdoor:
    """One trigger and what it should make the network answer.

    Attributes:
        trigger: changes the images.
        target: the label it asks for; None for "anything but the truth" (untargeted).
        source: the only label it works on, or None for all.

    """

    trigger: Trigger
    target: int | None
    source: int | None = None


@dataclass(frozen=True, kw_only=True)
class Poisoned:
    """A poisoned data set that any trainer can use.

    Attributes:
        data: the data, the poisoned samples among them.
        indices: positions of the poisoned samples, ascending, (P,) int64: for scoring only.
        which: for each poisoned sample, which backdoor it carries, (P,) int64.
        backdoors: what was planted.

    """

    data: Dataset
    indices: torch.Tensor
    which: torch.Tensor
    backdoors: tuple[Backdoor, ...]


@dataclass(frozen=True, kw_only=True)
class Attack(Method, ABC):
    """Base of the attacks that poison training data."""

    @abstractmethod
    def poison(self, data: Dataset, *, run: Run) -> Poisoned:
        """Return a poisoned copy of labelled `data`."""
