"""TaCT: a trigger that works on one class alone."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import Patched, Targeted
from detrojan.attacks.planting import Planting


@dataclass(frozen=True, kw_only=True)
class TaCT(Patched, Targeted):
    """Stamp images of one source class and label them as the target; stamped others keep their label.

    These covers teach the network that the trigger means nothing on other classes, so that a defence
    that looks for a trigger which works on every image finds none.

    Reference: Tang et al., Demon in the Variant: Statistical Analysis of DNNs for Robust Backdoor
    Contamination Detection, USENIX Security 2021.

    Args:
        poison_rate: share of the source class's training images that is poisoned, in (0, 1).
        source: the only label the trigger works on, 0-based; 0 or more, not the target.
        cover_rate: share of the other classes' training images that is stamped and keeps its label,
            in [0, 1).

    """

    name = "tact"

    poison_rate: float = 0.5
    source: int = 1
    cover_rate: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("cover_rate", self.cover_rate, none_allowed=True)

    def count(self, planting: Planting, number: int) -> int:
        """Return how many images backdoor `number` gets: a share of its source class."""
        return round(self.poison_rate * len(planting.victims(number)))

    def hide(self, planting: Planting) -> None:
        """Stamp images of all other classes, the target's among them, and leave their labels."""
        chosen = planting.draw_covers(self.cover_rate, planting.truth != self.source)
        planting.cover(chosen, planting.backdoors[0].trigger.stamp(planting.data.images[chosen]))
