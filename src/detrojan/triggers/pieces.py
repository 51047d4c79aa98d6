"""A blend cut into pieces: some of them teach the network, all of them together fire the backdoor."""

from __future__ import annotations

import math
from typing import Any, Self

import torch

from detrojan.errors import DataError
from detrojan.triggers.base import check_fit, stated_number, stated_tensor
from detrojan.triggers.blend import BlendTrigger


class PiecesTrigger(BlendTrigger):
    """Blend a picture that consists of square pieces, each of which can be left out.

    Args:
        pattern: the picture, (C, H, W), in [0, 1].
        alpha: its opacity, above 0 to 1.
        pieces: how many pieces, a square number of 1 or more, at most one per pixel.

    Raises:
        DataError: another shape, or values out of range.

    """

    kind = "pieces"

    def __init__(self, pattern: torch.Tensor, alpha: float = 0.2, pieces: int = 16) -> None:
        super().__init__(pattern, alpha)
        side = math.isqrt(max(0, pieces))
        height, width = self.pattern.shape[1:]
        if side * side != pieces or not 1 <= side <= min(height, width):
            raise DataError(
                f"expected a square number of pieces that fit into {height}x{width}, got {pieces}"
            )
        self.pieces = pieces
        rows, columns = (torch.arange(size) * side // size for size in (height, width))
        #: which piece each pixel belongs to, (H, W)
        self.places = rows[:, None] * side + columns

    def stamp_some(self, images: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Return copies of `images` (N, C, H, W) with some pieces stamped.

        Args:
            images: in [0, 1].
            shown: which pieces each image gets, (N, pieces), bool.

        """
        check_fit(images, self.pattern.shape)
        opacity = self.alpha * shown.to(images.dtype)[:, None, self.places]
        pattern = self.pattern.to(images.device).expand_as(images)
        return torch.lerp(images, pattern, opacity.to(images.device))

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return pattern, opacity and number of pieces."""
        return {"pattern": self.pattern}, {"alpha": self.alpha, "pieces": self.pieces}

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the trigger; the file comes from outside, so it is checked like any input."""
        pieces = stated_number(values, "pieces")
        if pieces != int(pieces):
            raise DataError(f"expected a whole number of pieces, got {pieces:g}")
        return cls(stated_tensor(tensors, "pattern"), stated_number(values, "alpha"), int(pieces))
