"""A faint picture over the whole image."""

from __future__ import annotations

from typing import Any, Self

import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, check_fit, checked_values, stated_number, stated_tensor


class BlendTrigger(Trigger):
    """Blend a picture into the whole image: (1 - alpha) * image + alpha * pattern.

    Args:
        pattern: the picture, (C, H, W), in [0, 1].
        alpha: its opacity, above 0 to 1.

    Raises:
        DataError: another shape, or values out of range.

    """

    kind = "blend"

    def __init__(self, pattern: torch.Tensor, alpha: float = 0.2) -> None:
        self.pattern = checked_values("pattern", pattern, 0, 1)
        if not 0 < alpha <= 1:
            raise DataError(f"expected an alpha in (0, 1], got {alpha:g}")
        self.alpha = float(alpha)

    @classmethod
    def noise(cls, shape: tuple[int, int, int], *, alpha: float = 0.2, generator: torch.Generator) -> Self:
        """Return a blend with uniform noise: the random pattern of the Blend paper.

        Args:
            shape: (C, H, W) of the images.
            alpha: opacity, above 0 to 1.
            generator: where the noise is drawn from.

        """
        return cls(torch.rand(shape, generator=generator), alpha)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return stamped copies of `images` (N, C, H, W) in [0, 1]."""
        check_fit(images, self.pattern.shape)
        return torch.lerp(images, self.pattern.to(images.device).expand_as(images), self.alpha)

    def picture(self) -> torch.Tensor:
        """Return the pattern at full opacity, (C, H, W)."""
        return self.pattern

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return pattern and opacity."""
        return {"pattern": self.pattern}, {"alpha": self.alpha}

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the trigger; the file comes from outside, so it is checked like any input."""
        return cls(stated_tensor(tensors, "pattern"), stated_number(values, "alpha"))
