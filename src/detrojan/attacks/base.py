"""What an attack is, and what it gives back: poisoned data, or a network with a backdoor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.learning.fitting import Fitting
from detrojan.learning.identity import identified
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor


def _no_samples() -> torch.Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, kw_only=True)
class Poisoned:
    """A poisoned data set that any trainer can use.

    Attributes:
        data: the data, the poisoned samples among them.
        indices: positions of the poisoned samples, ascending, (P,) int64: for scoring only.
        which: for each poisoned sample, which backdoor it carries, (P,) int64.
        backdoors: what was planted.
        covers: positions of the samples that were changed only to hide or to sharpen the backdoor
            and keep their true label, ascending, (Q,) int64; none of them is in `indices`.

    """

    data: Dataset
    indices: torch.Tensor
    which: torch.Tensor
    backdoors: tuple[Backdoor, ...]
    covers: torch.Tensor = field(default_factory=_no_samples)


@dataclass(frozen=True, kw_only=True)
class Attack(Method, ABC):
    """Base of all attacks; a method derives from `PoisoningAttack` or from `TrainingAttack`.

    A subclass says with `clean_label` that it leaves every label as it is, and with `covers_image`
    that its trigger covers the whole image, so that a picture given instead is stretched.
    """

    clean_label: ClassVar[bool] = False
    covers_image: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse values outside their range; a subclass calls its base's check too."""

    def hyper_parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters as plain values; triggers and networks are recorded by digests."""
        return {item.name: identified(getattr(self, item.name)) for item in fields(self)}


@dataclass(frozen=True, kw_only=True)
class PoisoningAttack(Attack):
    """Base of the attacks that poison training data; the victim trains."""

    @abstractmethod
    def poison(self, data: Dataset, *, run: Run) -> Poisoned:
        """Return a poisoned copy of labelled `data`."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What an attacker who trains hands over.

    Attributes:
        model: the network with the backdoor; the model that was given is unchanged.
        backdoors: what was planted.

    """

    model: Classifier
    backdoors: tuple[Backdoor, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingAttack(Attack):
    """Base of the attacks in which the attacker trains the network: the trigger may be learnt too."""

    @abstractmethod
    def train(self, model: Classifier, data: Dataset, *, run: Run, how: Fitting | None = None) -> Planted:
        """Return a trained copy of `model` with a backdoor.

        Args:
            model: where the training starts from, trained or not; unchanged.
            data: labelled images.
            run: device, seed, progress, checkpoint.
            how: the training of the network; None for the attack's own.

        """


def check_share(name: str, value: float, *, all_allowed: bool = False, none_allowed: bool = False) -> None:
    """Refuse a share that is not between none and all.

    Args:
        name: of the hyper-parameter.
        value: the share.
        all_allowed: 1 is allowed too.
        none_allowed: 0 is allowed too.

    Raises:
        OptionError: it is outside its range.

    """
    if 0 < value < 1 or (value == 1 and all_allowed) or (value == 0 and none_allowed):
        return
    interval = f"{'[' if none_allowed else '('}0, 1{']' if all_allowed else ')'}"
    raise OptionError(f"expected {name} in {interval}, got {value:g}")
