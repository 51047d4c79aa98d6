"""What the attacks share in which the attacker trains the network on data with a patch in them."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.badnets import BadNets
from detrojan.attacks.base import Poisoned, TrainingAttack
from detrojan.attacks.kinds import Patched, Relabelling
from detrojan.data.dataset import Dataset
from detrojan.run import Run
from detrojan.triggers.base import Trigger


@dataclass(frozen=True, kw_only=True)
class TrainedOnPatches(Patched, TrainingAttack):
    """Base of the attacks in which the attacker trains, on images that he stamps and relabels.

    Args:
        poison_rate: share of the training images that is poisoned, in (0, 1).
        target: the label asked for, 0-based, or -1 to make it untargeted (label y becomes
            (y + 1) mod K); -1 or more.
        source: the only label the trigger works on, 0-based; None for all.

    """

    poison_rate: float = 0.1
    target: int = 0
    source: int | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        self.poisoning(self.trigger)

    def poisoning(self, trigger: Trigger | None) -> Relabelling:
        """Return the attack that poisons the training images."""
        return BadNets(
            poison_rate=self.poison_rate,
            target=self.target,
            source=self.source,
            size=self.size,
            alpha=self.alpha,
            trigger=trigger,
        )

    def poisoned(self, data: Dataset, run: Run, trigger: Trigger | None = None) -> Poisoned:
        """Return a copy of labelled `data` in which a share is stamped and relabelled.

        Args:
            data: labelled images; unchanged.
            run: its seed.
            trigger: stamped instead of the one `made` returns.

        Raises:
            LabelError: the data carry no labels.
            OptionError: a target or source beyond the labels, or too few images to poison.

        """
        trigger = trigger or self.made(data.shape, run)
        return self.poisoning(trigger).poison(data, run=run.within(self.name))
