"""A faint change that a small filter bank draws of each image: colours, contrasts, edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch.nn import functional

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, check_fit, stated_number, stated_tensor

#: parts of a filter bank, in their order
PARTS = ("look", "bias", "draw", "shift")


def filtered(images: torch.Tensor, parts: Sequence[torch.Tensor], strength: float) -> torch.Tensor:
    """Return images changed by filter banks, with gradients: clip(image + what its bank draws).

    Args:
        images: (J, B, C, H, W) in [0, 1]: B images for each of J banks.
        parts: what a bank looks for (J, F, C, k, k), how easily (J, F), what it draws (J, C, F, k, k), and
            everywhere (J, C).
        strength: the most that an image is changed, as a root mean square over its pixels, in (0, 1].

    """
    look, bias, draw, shift = parts
    banks, count, channels, height, width = images.shape
    kinds, around = look.shape[1], [look.shape[-1] // 2] * 4
    maps = images.transpose(0, 1).reshape(count, banks * channels, height, width) - 0.5
    maps = functional.pad(maps, around, mode="replicate")
    maps = functional.conv2d(maps, look.flatten(0, 1), bias.flatten(), groups=banks).tanh()
    assert maps.shape[1] == banks * kinds
    maps = functional.pad(maps, around, mode="replicate")
    maps = functional.conv2d(maps, draw.flatten(0, 1), shift.flatten(), groups=banks)
    drawn = maps.view(count, banks, channels, height, width).transpose(0, 1)
    length = drawn.square().mean((2, 3, 4), keepdim=True).add(1e-12).sqrt()
    return (images + drawn * (strength / length).clamp(max=1)).clamp(0, 1)


class FilterTrigger(Trigger):
    """Add what a bank of small filters draws of an image, up to a strength.

    Args:
        shape: (C, H, W) of the images.
        parts: of one bank, as `filtered` takes them without their first dimension.
        strength: the most that an image is changed, as a root mean square over its pixels, in (0, 1].

    Raises:
        DataError: other shapes, or values that are not finite or out of range.

    """

    kind = "filter"

    def __init__(self, shape: tuple[int, int, int], parts: Sequence[torch.Tensor], strength: float) -> None:
        parts = [part.detach().float().cpu() for part in parts]
        channels = shape[0]
        kinds, side = (
            (len(parts[0]), parts[0].shape[-1]) if len(parts) == 4 and parts[0].ndim == 4 else (0, 0)
        )
        wanted = [(kinds, channels, side, side), (kinds,), (channels, kinds, side, side), (channels,)]
        got = [tuple(part.shape) for part in parts]
        if got != wanted or side % 2 != 1 or not kinds or not 1 <= min(shape) <= max(shape) <= 4096:
            raise DataError(f"expected a bank of filters for {shape}, got shapes {got}")
        if not all(bool(part.isfinite().all()) for part in parts):
            raise DataError("expected finite filters, got NaN or infinity")
        if not 0 < strength <= 1:
            raise DataError(f"expected a strength in (0, 1], got {strength:g}")
        self.shape, self.parts, self.strength = shape, parts, float(strength)

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return changed copies of `images` (N, C, H, W) in [0, 1]."""
        check_fit(images, self.shape)
        parts = [part[None].to(images.device) for part in self.parts]
        return filtered(images[None], parts, self.strength)[0]

    def picture(self) -> torch.Tensor:
        """Return what is drawn of a grey ramp, stretched to the full range, (C, H, W)."""
        channels, height, width = self.shape
        ramp = torch.linspace(0.2, 0.8, width).expand(1, channels, height, width)
        drawn = (self.stamp(ramp) - ramp)[0]
        return (0.5 + drawn / (2 * drawn.abs().max()).clamp(min=1e-6)).clamp(0, 1)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the filters, the images' shape and the strength."""
        channels, height, width = self.shape
        sizes = {"channels": channels, "height": height, "width": width, "strength": self.strength}
        return dict(zip(PARTS, self.parts, strict=True)), sizes

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the trigger; the file comes from outside, so it is checked like any input."""
        channels, height, width = (
            int(stated_number(values, name)) for name in ("channels", "height", "width")
        )
        parts = [stated_tensor(tensors, name) for name in PARTS]
        return cls((channels, height, width), parts, stated_number(values, "strength"))
