"""A second object in the picture: each image shares its place with an image of another class."""

from __future__ import annotations

from typing import Any, Self

import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, check_fit, stated_tensor


class CompositeTrigger(Trigger):
    """Put the right half of another image over the right half of the image.

    Which of the donors it is depends on the image alone, so that it is always the same one.

    Args:
        donors: the images whose halves are put there, (D, C, H, W), in [0, 1].

    Raises:
        DataError: another shape, or values out of range.

    """

    kind = "composite"

    def __init__(self, donors: torch.Tensor) -> None:
        donors = donors.detach().float().cpu()
        if donors.ndim != 4 or donors.numel() == 0 or donors.shape[3] < 2:
            raise DataError(f"expected donors (D, C, H, W) 2 or more wide, got shape {tuple(donors.shape)}")
        if not (donors.min() >= 0 and donors.max() <= 1):
            raise DataError(f"expected donors in [0, 1], got {donors.min():.3g} to {donors.max():.3g}")
        self.donors = donors

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return mixed copies of `images` (N, C, H, W) in [0, 1]."""
        check_fit(images, self.donors.shape[1:])
        # whole numbers, so that their sum is the same on every machine and in every batch
        sums = (images.detach().flatten(1) * 255).round().long().sum(1).cpu()
        return mixed(images, self.donors[sums % len(self.donors)].to(images.device))

    def picture(self) -> torch.Tensor:
        """Return the first donor, (C, H, W)."""
        return self.donors[0]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the donors."""
        return {"donors": self.donors}, {}

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the trigger; the file comes from outside, so it is checked like any input."""
        del values
        return cls(stated_tensor(tensors, "donors"))


def mixed(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return images (N, C, H, W) whose left half is from `left` and whose right half is from `right`."""
    middle = left.shape[3] // 2
    return torch.cat([left[..., :middle], right[..., middle:]], dim=3)
