"""A smooth signal: nothing of it shows among an image's high frequencies."""

from __future__ import annotations

import math
from typing import Self

import torch

from detrojan.errors import DataError
from detrojan.triggers.additive import AdditiveTrigger


class LowFrequencyTrigger(AdditiveTrigger):
    """Add a signal made of an image's lowest cosine frequencies only.

    Args:
        change: what is added, (C, H, W), in [-1, 1]; `drawn` makes it.

    """

    kind = "low_frequency"

    @classmethod
    def drawn(
        cls,
        shape: tuple[int, int, int],
        *,
        amplitude: float = 0.1,
        band: int = 4,
        generator: torch.Generator,
    ) -> Self:
        """Return a signal with random coefficients of the lowest `band` x `band` cosines.

        The constant is left out: a mere change of brightness is no secret.

        Args:
            shape: (C, H, W) of the images.
            amplitude: largest change of a pixel, 0 to 1.
            band: how many frequencies per direction, 2 to the shorter side.
            generator: where the coefficients are drawn from.

        Raises:
            DataError: the band does not fit the images.

        """
        channels, height, width = shape
        if not 2 <= band <= min(height, width):
            raise DataError(f"expected a band of 2 to {min(height, width)} frequencies, got {band}")
        coefficients = torch.randn(channels, band, band, generator=generator, dtype=torch.float64)
        coefficients[:, 0, 0] = 0
        signal = cosines(band, height).T @ coefficients @ cosines(band, width)
        return cls(signal * (amplitude / signal.abs().max()))


def cosines(band: int, size: int) -> torch.Tensor:
    """Return the first `band` vectors of the cosine transform, (band, size), float64."""
    places = torch.arange(size, dtype=torch.float64) + 0.5
    return torch.cos(math.pi / size * torch.arange(band, dtype=torch.float64)[:, None] * places)
