"""Low frequency: a smooth signal is the trigger."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import Targeted
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.low_frequency import LowFrequencyTrigger


@dataclass(frozen=True, kw_only=True)
class LowFrequency(Targeted):
    """Add a signal without high frequencies to a share of the images and label them as the target.

    A defence that looks for high-frequency artefacts of a trigger finds none. The coefficients are
    drawn at random, where the paper searches for them with the help of a trained network.

    Reference: Zeng et al., Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective,
    ICCV 2021.

    Args:
        amplitude: largest change of a pixel, in (0, 1].
        band: how many of the lowest cosine frequencies per direction, 2 or more.

    """

    name = "low_frequency"

    amplitude: float = 0.1
    band: int = 4

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("amplitude", self.amplitude, all_allowed=True)
        if self.band < 2:
            raise OptionError(f"expected a band of 2 or more, got {self.band}")

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the signal for images of `shape` (C, H, W)."""
        return LowFrequencyTrigger.drawn(
            shape,
            amplitude=self.amplitude,
            band=self.band,
            generator=run.generator(self.name, "trigger"),
        )
