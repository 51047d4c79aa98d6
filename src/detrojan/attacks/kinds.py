"""The kinds of poisoning attacks: what they share is written here, a method adds its own idea only."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from detrojan.attacks.base import Attack, Poisoned, PoisoningAttack, check_share
from detrojan.attacks.planting import Planting
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger


@dataclass(frozen=True, kw_only=True)
class Relabelling(PoisoningAttack):
    """Base of the attacks that stamp a share of the images and change their labels.

    Args:
        poison_rate: share of the training images that is poisoned, in all; in (0, 1).

    """

    poison_rate: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("poison_rate", self.poison_rate)

    @abstractmethod
    def planted(self, shape: tuple[int, int, int], run: Run) -> tuple[Backdoor, ...]:
        """Return the backdoors to plant in images of `shape` (C, H, W)."""

    def learnt(self, trigger: Trigger, data: Dataset, run: Run) -> Trigger:
        """Return a trigger after it has learnt from clean `data`; most attacks' triggers need not."""
        return trigger

    def stamped(self, trigger: Trigger, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return poisoned training images: stamped ones, unless the attack trains on something fainter."""
        return trigger.stamp(images)

    def count(self, planting: Planting, number: int) -> int:
        """Return how many images backdoor `number` gets."""
        return round(self.poison_rate * len(planting.data)) // len(planting.backdoors)

    def hide(self, planting: Planting) -> None:
        """Lay out the covers; most attacks have none."""

    def poison(self, data: Dataset, *, run: Run) -> Poisoned:
        """Return a poisoned copy of labelled `data`.

        The poisoned images are drawn from those whose label is not the backdoor's target (and is
        its source, where it has one), the same number for each backdoor.

        Raises:
            LabelError: the data carry no labels.
            OptionError: a target or source beyond the labels, or too few images to poison.

        """
        planting = Planting(data, self.planted(data.shape, run), run.generator(self.name))
        planting.backdoors = tuple(
            replace(backdoor, trigger=self.learnt(backdoor.trigger, data, run))
            for backdoor in planting.backdoors
        )
        for number, backdoor in enumerate(planting.backdoors):
            chosen = planting.draw(
                planting.victims(number),
                self.count(planting, number),
                what=f"to stamp with trigger {number}",
                cure="poison rate",
            )
            images = self.stamped(backdoor.trigger, data.images[chosen], planting.generator)
            planting.poison(chosen, number, images)
        self.hide(planting)
        return planting.poisoned()


@dataclass(frozen=True, kw_only=True)
class Targeted(Relabelling):
    """Base of the relabelling attacks that have one trigger and one target.

    Args:
        target: the label asked for, 0-based, or -1 to make it untargeted (label y becomes
            (y + 1) mod K); -1 or more.
        source: the only label the trigger works on, 0-based; None for all.

    """

    target: int = 0
    source: int | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.target < -1:
            raise OptionError(f"expected a target of -1 or more, got {self.target}")
        if self.source is not None and (self.source < 0 or self.source == self.target):
            raise OptionError(
                f"expected a source of 0 or more that is not the target {self.target}, got {self.source}"
            )

    @abstractmethod
    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the trigger to plant in images of `shape` (C, H, W)."""

    def planted(self, shape: tuple[int, int, int], run: Run) -> tuple[Backdoor, ...]:
        """Return the backdoor to plant in images of `shape` (C, H, W)."""
        target = None if self.target < 0 else self.target
        return (Backdoor(trigger=self.made(shape, run), target=target, source=self.source),)


@dataclass(frozen=True, kw_only=True)
class Patched(Attack):
    """Mixed into the attacks whose trigger is a patch if nobody names another one.

    Args:
        size: side of the default patch in pixels; 1 or more.
        alpha: opacity of the default patch, in (0, 1].
        trigger: planted instead of the default patch; None for that patch.

    """

    size: int = 3
    alpha: float = 1.0
    trigger: Trigger | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not 0 < self.alpha <= 1 or self.size < 1:
            raise OptionError(
                f"expected alpha in (0, 1] and size of 1 or more, got {self.alpha:g} and {self.size}"
            )

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the trigger asked for, or a checker patch in the lower right corner."""
        return self.trigger or PatchTrigger.corner(shape, size=self.size, alpha=self.alpha)


@dataclass(frozen=True, kw_only=True)
class CleanLabel(PoisoningAttack):
    """Base of the attacks that change images of the target class only and leave every label as it is.

    Args:
        poison_rate: share of the target class's training images that is poisoned, in (0, 1].
        target: the label asked for, 0-based; 0 or more.

    """

    clean_label: ClassVar[bool] = True

    poison_rate: float = 0.5
    target: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("poison_rate", self.poison_rate, all_allowed=True)
        if self.target < 0:
            raise OptionError(f"expected a target of 0 or more, got {self.target}")

    @abstractmethod
    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the trigger that fires in images of `shape` (C, H, W)."""

    def disguised(self, data: Dataset, chosen: torch.Tensor, trigger: Trigger, run: Run) -> torch.Tensor:
        """Return what takes the place of the images at `chosen`: stamped ones, unless the attack says so."""
        return trigger.stamp(data.images[chosen])

    def poison(self, data: Dataset, *, run: Run) -> Poisoned:
        """Return a poisoned copy of labelled `data`, with all labels as they were.

        Raises:
            LabelError: the data carry no labels.
            OptionError: a target beyond the labels, or too few images of it.

        """
        backdoor = Backdoor(trigger=self.made(data.shape, run), target=self.target)
        planting = Planting(data, (backdoor,), run.generator(self.name))
        own = planting.free(planting.truth == self.target)
        chosen = planting.draw(
            own,
            round(self.poison_rate * len(own)),
            what=f"of the target's class {self.target} to poison",
            cure="poison rate",
        )
        planting.poison(chosen, 0, self.disguised(data, chosen, backdoor.trigger, run), relabel=False)
        return planting.poisoned()
