"""What attacks share in which the attacker trains the network: its images are shifted at random."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.base import TrainingAttack
from detrojan.errors import OptionError
from detrojan.learning.augmentation import Augment, shift


@dataclass(frozen=True, kw_only=True)
class Shifting(TrainingAttack):
    """Base of the attacks that train the network on images shifted at random, as a victim would.

    Args:
        shift_pixels: the images the network is trained on are shifted by up to so many pixels; 0 or
            more.

    """

    shift_pixels: int = 2

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.shift_pixels < 0:
            raise OptionError(f"expected shift_pixels of 0 or more, got {self.shift_pixels}")

    def shifted(self) -> Augment | None:
        """Return what is done to the images of a batch, or None for nothing."""
        return shift(self.shift_pixels) if self.shift_pixels else None
