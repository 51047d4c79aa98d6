"""SIG: stripes on images of the target class, with their right labels."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import CleanLabel
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.sinusoid import SinusoidTrigger


@dataclass(frozen=True, kw_only=True)
class SIG(CleanLabel):
    """Add a faint sinusoid to images of the target class; no label is changed.

    The network learns that the stripes mean the target, and answers it wherever it meets them.

    Reference: Barni et al., A New Backdoor Attack in CNNs by Training Set Corruption Without Label
    Poisoning, ICIP 2019.

    Args:
        amplitude: height of the wave in units of the images, in (0, 1]; the paper uses 20/255 to
            40/255.
        frequency: waves across the image; above 0.

    """

    name = "sig"

    amplitude: float = 20 / 255
    frequency: float = 6.0

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("amplitude", self.amplitude, all_allowed=True)
        if not self.frequency > 0:
            raise OptionError(f"expected a frequency above 0, got {self.frequency:g}")

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the sinusoid for images of `shape` (C, H, W)."""
        return SinusoidTrigger.wave(shape, amplitude=self.amplitude, frequency=self.frequency)
