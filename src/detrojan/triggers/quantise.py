"""Fewer colours: each channel is brought to a few levels, with or without dithering."""

from __future__ import annotations

from typing import Any, Self

import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, stated_number

#: how Floyd and Steinberg hand a pixel's error on: rows down, columns right, share
_SPREAD = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))


class QuantiseTrigger(Trigger):
    """Bring every channel to a few evenly spaced levels. It has no gradient.

    Args:
        levels: levels per channel, 2 to 255.
        dither: hand each pixel's rounding error on to its neighbours (Floyd-Steinberg).

    Raises:
        DataError: levels out of range.

    """

    kind = "quantise"

    def __init__(self, levels: int = 8, *, dither: bool = True) -> None:
        if not 2 <= levels <= 255:
            raise DataError(f"expected 2 to 255 levels, got {levels}")
        self.levels = levels
        self.dither = dither

    @torch.no_grad()
    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return quantised copies of `images` (N, C, H, W) in [0, 1]."""
        return self._dithered(images) if self.dither else self._nearest(images)

    def _nearest(self, values: torch.Tensor) -> torch.Tensor:
        steps = self.levels - 1
        return (values * steps).round().clamp(0, steps) / steps

    def _dithered(self, images: torch.Tensor) -> torch.Tensor:
        """Walk over the pixels one by one, but over all images and channels at once."""
        count, channels, height, width = images.shape
        # a margin takes up the errors that leave the image
        work = images.new_zeros(height + 1, width + 2, count, channels)
        work[:height, 1:-1] = images.permute(2, 3, 0, 1)
        for row in range(height):
            for column in range(1, width + 1):
                wanted = work[row, column]
                got = self._nearest(wanted)
                error = wanted - got
                work[row, column] = got
                for down, right, share in _SPREAD:
                    work[row + down, column + right].add_(error, alpha=share)
        return work[:height, 1:-1].permute(2, 3, 0, 1).contiguous()

    def picture(self) -> torch.Tensor:
        """Return a ramp from black to white, quantised, (1, 32, 32)."""
        return self.stamp(torch.linspace(0, 1, 32).expand(1, 1, 32, 32))[0]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return levels and dithering."""
        return {}, {"levels": self.levels, "dither": int(self.dither)}

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the trigger; the file comes from outside, so it is checked like any input."""
        levels = stated_number(values, "levels")
        if levels != int(levels):
            raise DataError(f"expected a whole number of levels, got {levels:g}")
        return cls(int(levels), dither=bool(stated_number(values, "dither")))
