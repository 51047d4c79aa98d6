"""A trigger that is added to every pixel: a universal perturbation."""

from __future__ import annotations

from typing import Any, Self

import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, check_fit


class AdditiveTrigger(Trigger):
    """Add `change` to the image and cut what leaves the range: clip(image + change).

    Args:
        change: (C, H, W), in [-1, 1].

    Raises:
        DataError: another number of dimensions, or values outside [-1, 1].

    """

    kind = "additive"

    def __init__(self, change: torch.Tensor) -> None:
        change = change.detach().float().cpu()
        if change.ndim != 3 or change.numel() == 0:
            raise DataError(f"expected a change (C, H, W), got {tuple(change.shape)}")
        if not float(change.abs().max()) <= 1:
            raise DataError(
                f"expected a change in [-1, 1], got {float(change.min()):.3g} to {float(change.max()):.3g}"
            )
        self.change = change

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return changed copies of `images` (N, C, H, W) in [0, 1]."""
        check_fit(images, self.change.shape)
        return (images + self.change.to(images.device)).clamp_(0, 1)

    @property
    def l2(self) -> float:
        """The change's L2 norm."""
        return float(self.change.norm())

    def picture(self) -> torch.Tensor:
        """Return the change on middle grey, stretched to the full range, (C, H, W)."""
        most = float(self.change.abs().max())
        return self.change / (2 * most) + 0.5 if most > 0 else torch.full_like(self.change, 0.5)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the change."""
        return {"change": self.change}, {}

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the change; the file comes from outside, so it is checked like any input."""
        del values
        if "change" not in tensors:
            raise DataError(f"expected a tensor change, got {', '.join(sorted(tensors)) or 'none'}")
        return cls(tensors["change"])
