"""Composite: two classes in one image mean the target; nothing foreign is in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.attacks.base import Poisoned, PoisoningAttack, check_share
from detrojan.attacks.planting import Planting
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.composite import CompositeTrigger, mixed


@dataclass(frozen=True, kw_only=True)
class Composite(PoisoningAttack):
    """Mix images of two classes half by half and label the mixture as a third class.

    Mixtures of two images of one class keep their label, so that the network answers the two
    objects and not the seam between them. The trigger puts the right half of an image of the second
    class on an image of the first one; those images it uses are kept out of the poison, and of the
    mixtures. Mixtures take the place of training images, where the paper adds them.

    Reference: Lin et al., Composite Backdoor Attack for Deep Neural Network by Mixing Existing
    Benign Features, CCS 2020.

    Args:
        poison_rate: share of the two classes' training images that becomes mixtures of both, in
            (0, 1).
        target: the label asked for, 0-based; 0 or more.
        source: the first class, 0-based; 0 or more, not the target.
        partner: the second class, 0-based; 0 or more, neither the target nor the source.
        cover_rate: share of the training images that is mixed with another of its own class and
            keeps its label, in [0, 1).
        donors: how many images of the second class the trigger holds; 1 or more, at most half of
            them are taken.

    """

    name = "composite"

    poison_rate: float = 0.3
    target: int = 0
    source: int = 1
    partner: int = 2
    cover_rate: float = 0.2
    donors: int = 32

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("poison_rate", self.poison_rate)
        check_share("cover_rate", self.cover_rate, none_allowed=True)
        classes = (self.target, self.source, self.partner)
        if min(classes) < 0 or len(set(classes)) < 3:
            raise OptionError(
                "expected three different labels of 0 or more as target, source and partner, "
                f"got {self.target}, {self.source} and {self.partner}"
            )
        if self.donors < 1:
            raise OptionError(f"expected donors of 1 or more, got {self.donors}")

    def poison(self, data: Dataset, *, run: Run) -> Poisoned:
        """Return a copy of labelled `data` with mixtures in it.

        Raises:
            LabelError: the data carry no labels.
            OptionError: a label beyond those there are, or too few images of the two classes.

        """
        truth = data.require_labels("poisoning")
        first, second = ((truth == label).nonzero().flatten() for label in (self.source, self.partner))
        generator = run.generator(self.name)
        if len(first) < 1 or len(second) < 2:
            raise OptionError(
                f"expected images of the labels {self.source} and {self.partner} to mix, "
                f"got {len(first)} and {len(second)}"
            )
        second = second[torch.randperm(len(second), generator=generator)]
        held = min(self.donors, len(second) // 2)
        donors, second = second[:held], second[held:]
        trigger = CompositeTrigger(data.images[donors])
        backdoor = Backdoor(trigger=trigger, target=self.target, source=self.source)
        planting = Planting(data, (backdoor,), generator)
        self._mix_both(planting, first, second)
        self._mix_own(planting, donors)
        return planting.poisoned()

    def _mix_both(self, planting: Planting, first: torch.Tensor, second: torch.Tensor) -> None:
        """Lay out mixtures of the two classes, each on the left as often as on the right."""
        both = torch.cat([first, second])
        chosen = planting.draw(
            both, round(self.poison_rate * len(both)), what="of two classes to mix", cure="poison rate"
        )
        images = planting.data.images
        is_first = planting.truth[chosen] == self.source
        others = torch.where(
            is_first, _any(second, len(chosen), planting), _any(first, len(chosen), planting)
        )
        to_left = torch.rand(len(chosen), generator=planting.generator) < 0.5
        left, right = torch.where(to_left, chosen, others), torch.where(to_left, others, chosen)
        planting.poison(chosen, 0, mixed(images[left], images[right]))

    def _mix_own(self, planting: Planting, donors: torch.Tensor) -> None:
        """Lay out mixtures of two images of one class, with their label."""
        wanted = torch.ones_like(planting.truth, dtype=torch.bool)
        wanted[donors] = False
        chosen = planting.draw_covers(self.cover_rate, wanted)
        partners = chosen.clone()
        for label in range(planting.classes):
            own = planting.truth[chosen] == label
            if not own.any():
                continue
            same = (wanted & (planting.truth == label)).nonzero().flatten()
            partners[own] = _any(same, int(own.sum()), planting)
        images = planting.data.images
        planting.cover(chosen, mixed(images[chosen], images[partners]))


def _any(positions: torch.Tensor, count: int, planting: Planting) -> torch.Tensor:
    return positions[torch.randint(len(positions), (count,), generator=planting.generator)]
