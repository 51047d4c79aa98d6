"""A smooth warp of the whole image: no pattern is added, pixels only move."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch.nn import functional

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, stated_tensor

#: pixels of a picture's shorter side at least; lines along it, and how thick they are
SIDE, LINES, THICK = 192, 8, 2


def smooth_field(control: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return displacements (N, 2, H, W) of every pixel, from those of a coarse grid (N, 2, G, G)."""
    return functional.interpolate(control, size=size, mode="bicubic", align_corners=True)


def warped(images: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Return images (N, C, H, W) with every pixel fetched from where a field says, with gradients.

    Args:
        images: in [0, 1].
        field: displacements in pixels, rightwards and downwards, (N, 2, H, W), or (1, 2, H, W) for all.

    """
    height, width = field.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=field.device), torch.arange(width, device=field.device), indexing="ij"
    )
    across = (columns + field[:, 0]) * (2 / (width - 1)) - 1
    down = (rows + field[:, 1]) * (2 / (height - 1)) - 1
    places = torch.stack([across, down], dim=-1)
    # where two pixels are mixed, rounding may leave [0, 1] by the last bit
    return functional.grid_sample(
        images, places.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=True
    ).clamp(0, 1)


class WarpTrigger(Trigger):
    """Fetch every pixel from where a field of displacements says.

    Args:
        field: displacements in pixels, rightwards and downwards, (2, H, W), finite.

    Raises:
        DataError: another shape, or values that are not finite.

    """

    kind = "warp"

    def __init__(self, field: torch.Tensor) -> None:
        field = field.detach().float().cpu()
        if field.ndim != 3 or len(field) != 2 or min(field.shape[1:]) < 2:
            raise DataError(f"expected displacements (2, H, W), got shape {tuple(field.shape)}")
        if not field.isfinite().all():
            raise DataError("expected finite displacements, got NaN or infinity")
        self.field = field

    @classmethod
    def elastic(
        cls,
        size: tuple[int, int],
        *,
        grid: int = 4,
        strength: float = 0.5,
        generator: torch.Generator,
    ) -> Self:
        """Return WaNet's field: random displacements at a coarse grid, made smooth by interpolation.

        Args:
            size: (H, W) of the images.
            grid: control points per direction, 2 or more.
            strength: the paper's s: the control points move by s / 2 pixels on average.
            generator: where the displacements are drawn from.

        """
        control = torch.rand(1, 2, grid, grid, generator=generator) * 2 - 1
        control /= control.abs().mean()
        return cls(smooth_field(control, size)[0] * strength / 2)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return warped copies of `images` (N, C, H, W) in [0, 1]."""
        return self._warped(images, self.field[None])

    def stamp_noisy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return copies of `images` warped by the field plus noise of their own, up to half a pixel.

        The noise differs from pixel to pixel and from image to image: WaNet's noise mode, which
        teaches a network to answer this very field and no other.
        """
        noise = torch.rand(len(images), *self.field.shape, generator=generator) - 0.5
        return self._warped(images, self.field + noise)

    def _warped(self, images: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
        height, width = self.field.shape[1:]
        if tuple(images.shape[2:]) != (height, width):
            raise DataError(
                f"expected images of {height}x{width} as the trigger's, "
                f"got {images.shape[2]}x{images.shape[3]}"
            )
        return warped(images, field.to(images.device))

    def picture(self) -> torch.Tensor:
        """Return a regular grid as the warp moves it, (3, H, W) with sides of at least `SIDE` pixels.

        Movements are magnified: the largest is half of the way from one line to the next.
        """
        height, width = self.field.shape[1:]
        times = max(1, -(-SIDE // min(height, width)))
        size = (height * times, width * times)
        cell = min(size) // LINES
        field = functional.interpolate(self.field[None], size=size, mode="bicubic", align_corners=True)
        field = field * (cell / 2 / field.abs().max().clamp(min=1e-6))
        lines = [(torch.arange(side) - cell // 2) % cell < THICK for side in size]
        grid = torch.where(lines[0][:, None] | lines[1], 0.25, 1.0).expand(1, 3, -1, -1)
        return warped(grid, field)[0]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the displacements."""
        return {"field": self.field}, {}

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the warp; the file comes from outside, so it is checked like any input."""
        return cls(stated_tensor(tensors, "field"))
