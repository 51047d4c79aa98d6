"""A trigger that blends a picture into the image through a mask: patches, stickers, glasses."""

from __future__ import annotations

from typing import Any, Self

import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, check_fit


class PatchTrigger(Trigger):
    """Blend `pattern` into the image where `mask` says: (1 - mask) * image + mask * pattern.

    Args:
        mask: opacity per pixel, (H, W) or (1, H, W), in [0, 1].
        pattern: the picture, (C, H, W), in [0, 1].

    Raises:
        DataError: shapes that do not fit, or values outside [0, 1].

    """

    kind = "patch"

    def __init__(self, mask: torch.Tensor, pattern: torch.Tensor) -> None:
        mask = mask.detach().float().cpu()
        mask = mask[None] if mask.ndim == 2 else mask
        pattern = pattern.detach().float().cpu()
        if pattern.ndim != 3 or mask.shape != (1, *pattern.shape[1:]) or pattern.numel() == 0:
            raise DataError(
                "expected a mask (H, W) and a pattern (C, H, W) of one size, "
                f"got {tuple(mask.shape)} and {tuple(pattern.shape)}"
            )
        for name, values in (("mask", mask), ("pattern", pattern)):
            if not (values.min() >= 0 and values.max() <= 1):
                raise DataError(f"expected a {name} in [0, 1], got {values.min():.3g} to {values.max():.3g}")
        self.mask = mask
        self.pattern = pattern

    @classmethod
    def corner(
        cls,
        shape: tuple[int, int, int],
        *,
        size: int = 3,
        where: str = "bottom right",
        margin: int = 1,
        pixels: str = "checker",
        alpha: float = 1.0,
    ) -> Self:
        """Return a square patch in a corner: the trigger of the BadNets paper.

        Args:
            shape: (C, H, W) of the images.
            size: side of the square in pixels.
            where: "top left", "top right", "bottom left" or "bottom right".
            margin: pixels left free to the two borders.
            pixels: "white" or "checker".
            alpha: opacity, above 0 to 1.

        """
        corners = [f"{row} {column}" for row in ("top", "bottom") for column in ("left", "right")]
        if where not in corners or pixels not in ("white", "checker"):
            raise DataError(
                f"expected a corner ({', '.join(corners)}) and pixels white or checker, "
                f"got {where!r} and {pixels!r}"
            )
        channels, height, width = shape
        if not 0 < size <= min(height, width) - margin:
            raise DataError(f"expected a patch of 1 to {min(height, width) - margin} pixels, got {size}")
        top = margin if where.startswith("top") else height - margin - size
        left = margin if where.endswith("left") else width - margin - size
        mask = torch.zeros(1, height, width)
        mask[:, top : top + size, left : left + size] = alpha
        pattern = torch.zeros(channels, height, width)
        square = torch.ones(size, size)
        if pixels == "checker":
            index = torch.arange(size)
            square = ((index[:, None] + index[None, :]) % 2 == 0).float()
        pattern[:, top : top + size, left : left + size] = square
        return cls(mask, pattern)

    @classmethod
    def picture_patch(
        cls, rgba: torch.Tensor, shape: tuple[int, int, int], *, top: int = 0, left: int = 0
    ) -> Self:
        """Return any picture as the patch, its fourth channel the opacity.

        Args:
            rgba: the picture, (C + 1, h, w), in [0, 1], the last channel the opacity.
            shape: (C, H, W) of the images.
            top: row of the picture's upper edge, in pixels.
            left: column of the picture's left edge, in pixels.

        """
        channels, height, width = shape
        parts, high, wide = rgba.shape
        if parts != channels + 1 or top + high > height or left + wide > width or top < 0 or left < 0:
            raise DataError(
                f"expected a picture of {channels + 1} channels that fits into {height}x{width} "
                f"at row {top}, column {left}, got {tuple(rgba.shape)}"
            )
        mask = torch.zeros(1, height, width)
        pattern = torch.zeros(channels, height, width)
        mask[0, top : top + high, left : left + wide] = rgba[-1]
        pattern[:, top : top + high, left : left + wide] = rgba[:-1]
        return cls(mask, pattern)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return stamped copies of `images` (N, C, H, W) in [0, 1]."""
        check_fit(images, self.pattern.shape)
        mask = self.mask.to(images.device)
        return torch.lerp(images, self.pattern.to(images.device).expand_as(images), mask)

    @property
    def l1(self) -> float:
        """Sum of the mask, in pixels."""
        return float(self.mask.sum())

    def picture(self) -> torch.Tensor:
        """Return mask times pattern, (C, H, W)."""
        return self.mask * self.pattern

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return mask and pattern."""
        return {"mask": self.mask, "pattern": self.pattern}, {}

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the patch; the file comes from outside, so it is checked like any input."""
        if not {"mask", "pattern"} <= tensors.keys():
            raise DataError(f"expected tensors mask and pattern, got {', '.join(sorted(tensors))}")
        return cls(tensors["mask"], tensors["pattern"])
