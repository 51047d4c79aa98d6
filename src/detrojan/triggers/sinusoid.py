"""A horizontal sinusoid over the whole image: SIG's trigger."""

from __future__ import annotations

import math
from typing import Self

import torch

from detrojan.triggers.additive import AdditiveTrigger


class SinusoidTrigger(AdditiveTrigger):
    """Add vertical stripes: amplitude * sin(2 pi j frequency / W) at column j, in every row and channel.

    Args:
        change: the stripes, (C, H, W), in [-1, 1]; `wave` makes them.

    """

    kind = "sinusoid"

    @classmethod
    def wave(
        cls, shape: tuple[int, int, int], *, amplitude: float = 20 / 255, frequency: float = 6.0
    ) -> Self:
        """Return the stripes for images of one shape.

        Args:
            shape: (C, H, W) of the images.
            amplitude: height of the wave in units of the images, 0 to 1.
            frequency: number of waves across the image.

        """
        columns = torch.arange(shape[2], dtype=torch.float64)
        line = amplitude * torch.sin(2 * math.pi * frequency * columns / shape[2])
        return cls(line.expand(shape))
