"""How one label's trigger is optimised, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.errors import OptionError
from detrojan.triggers.patch import PatchTrigger


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How one label's trigger is optimised; the defaults of the reference except for the budget.

    Args:
        steps: the most steps per label; 1 or more (the reference: 1000).
        mini_batches: mini-batches per step; 1 or more (the reference: 31 on GTSRB).
        batch_size: images per mini-batch; 2 or more.
        learning_rate: of Adam; above 0.
        betas: of Adam; each in [0, 1).
        initial_cost: weight of the mask's L1 once the attack works; above 0.
        threshold: attack success that counts, 0 to 1.
        patience: steps in a row after which the cost changes; 1 or more.
        multiplier: factor by which the cost grows; above 1 (it shrinks by its power 1.5).
        early_stop: steps without a better mask after which a label is done, once its cost has gone
            both up and down; 1 or more.

    Raises:
        OptionError: a value out of its range.

    """

    steps: int = 1000
    mini_batches: int = 31
    batch_size: int = 32
    learning_rate: float = 0.1
    betas: tuple[float, float] = (0.5, 0.9)
    initial_cost: float = 1e-3
    threshold: float = 0.99
    patience: int = 5
    multiplier: float = 2.0
    early_stop: int = 25

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for name in ("steps", "mini_batches", "patience", "early_stop"):
            if getattr(self, name) < 1:
                raise OptionError(f"expected {name} of 1 or more, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise OptionError(f"expected batch_size of 2 or more, got {self.batch_size}")
        if not (self.learning_rate > 0 and self.initial_cost > 0 and self.multiplier > 1):
            raise OptionError(
                "expected learning_rate and initial_cost above 0 and multiplier above 1, "
                f"got {self.learning_rate:g}, {self.initial_cost:g} and {self.multiplier:g}"
            )
        if not 0 < self.threshold <= 1 or not all(0 <= beta < 1 for beta in self.betas):
            raise OptionError(
                f"expected a threshold in (0, 1] and betas in [0, 1), got {self.threshold:g} and {self.betas}"
            )


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """One label's recovered trigger.

    Attributes:
        label: the label it leads to.
        trigger: mask and pattern.
        mask_l1: sum of the mask, in pixels.
        success: attack success over the step in which this mask was found, 0 to 1.
        converged: whether the threshold was ever reached; if not, the last mask is given.
        steps: steps that were spent.

    """

    label: int
    trigger: PatchTrigger
    mask_l1: float
    success: float
    converged: bool
    steps: int


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """The triggers of all labels that were asked for, and what they cost.

    Attributes:
        inverted: one entry per label, in the order that was asked for.
        passes: forward+backward passes of one sample.

    """

    inverted: tuple[Inverted, ...]
    passes: int
