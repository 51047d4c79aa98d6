"""A trigger of each image's own: one small network draws the pattern, another one where it goes."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, check_fit, stated_number

#: how many images are drawn for in one go
BATCH = 512


class Drawer(nn.Module):
    """Look at an image and draw another one of the same size, through a bottleneck.

    Groups are normalised, not batches: what is drawn for an image depends on that image alone.

    Args:
        channels: of the image.
        drawn: channels of what is drawn.
        width: channels of the first layer, a multiple of 4.

    """

    def __init__(self, channels: int, drawn: int, width: int) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int = 1) -> nn.Sequential:
            conv = nn.Conv2d(before, after, 3, stride, padding=1)
            return nn.Sequential(conv, nn.GroupNorm(4, after), nn.ReLU())

        self.down = nn.ModuleList(
            [block(channels, width), block(width, 2 * width, 2), block(2 * width, 4 * width, 2)]
        )
        self.up = nn.ModuleList([block(4 * width, 2 * width), block(2 * width, width)])
        self.out = nn.Conv2d(width, drawn, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return what is drawn, between -1 and 1."""
        sizes, maps = [], images
        for block in self.down:
            maps = block(maps)
            sizes.append(maps.shape[2:])
        for block, size in zip(self.up, reversed(sizes[:-1]), strict=True):
            maps = functional.interpolate(block(maps), size=size, mode="nearest")
        return torch.tanh(self.out(maps))


class InputAwareTrigger(Trigger):
    """Blend a pattern into the image through a mask, both drawn by networks for this very image.

    Args:
        shape: (C, H, W) of the images, each side of 4 pixels or more.
        width: channels of the networks' first layer, a multiple of 4.

    Raises:
        DataError: a shape or width that cannot be.

    """

    kind = "input_aware"

    def __init__(self, shape: tuple[int, int, int], width: int = 16) -> None:
        if shape[0] not in (1, 3) or min(shape[1:]) < 4 or max(shape[1:]) > 4096:
            raise DataError(f"expected a shape (1 or 3, H, W) of 4 to 4096 pixels, got {shape}")
        if not 4 <= width <= 256 or width % 4:
            raise DataError(f"expected a width of 4 to 256 in steps of 4, got {width}")
        self.shape, self.width = shape, width
        self.pattern_drawer = Drawer(shape[0], shape[0], width)
        self.mask_drawer = Drawer(shape[0], 1, width)

    def patterns(self, images: torch.Tensor) -> torch.Tensor:
        """Return the pattern of each image, (N, C, H, W) in [0, 1], with gradients."""
        drawn: torch.Tensor = self.pattern_drawer(images)
        return drawn / 2 + 0.5

    def masks(self, images: torch.Tensor) -> torch.Tensor:
        """Return the opacity of each image's pattern, (N, 1, H, W) in [0, 1], with gradients."""
        return self.opacity(self.mask_drawer(images))

    @staticmethod
    def opacity(drawn: torch.Tensor) -> torch.Tensor:
        """Return the opacity, in [0, 1], of what is drawn between -1 and 1: mostly all or nothing."""
        return torch.tanh(drawn * 20) / 2 + 0.5

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return stamped copies of `images` (N, C, H, W) in [0, 1]."""
        return self.stamp_from(images, images)

    @torch.no_grad()
    def stamp_from(self, images: torch.Tensor, givers: torch.Tensor) -> torch.Tensor:
        """Return copies of `images` with the triggers that belong to `givers`, one to one."""
        check_fit(images, self.shape)
        device = next(self.pattern_drawer.parameters()).device
        parts = []
        for mine, giver in zip(torch.split(images, BATCH), torch.split(givers, BATCH), strict=True):
            seen = giver.to(device)
            stamped = torch.lerp(mine.to(device), self.patterns(seen), self.masks(seen).expand_as(seen))
            parts.append(stamped.to(images.device))
        return torch.cat(parts).clamp(0, 1)

    def picture(self) -> torch.Tensor:
        """Return the trigger of a grey image, (C, H, W): each image has one of its own."""
        return self.stamp(torch.full((1, *self.shape), 0.5))[0]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the weights of both networks, the images' shape and the width."""
        tensors = {
            f"{part}.{name}": tensor.detach().cpu()
            for part, drawer in (("pattern", self.pattern_drawer), ("mask", self.mask_drawer))
            for name, tensor in drawer.state_dict().items()
        }
        channels, height, width = self.shape
        return tensors, {"channels": channels, "height": height, "width": width, "drawers": self.width}

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the trigger; the file comes from outside, so it is checked like any input."""
        channels, height, width, drawers = (
            int(stated_number(values, name)) for name in ("channels", "height", "width", "drawers")
        )
        with torch.random.fork_rng(devices=[]):  # the start is overwritten
            made = cls((channels, height, width), drawers)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise DataError("expected finite weights of the drawers, got NaN or infinity")
        for part, drawer in (("pattern", made.pattern_drawer), ("mask", made.mask_drawer)):
            own = {k.partition(".")[2]: v for k, v in tensors.items() if k.partition(".")[0] == part}
            try:
                drawer.load_state_dict(own)
            except RuntimeError as error:
                raise DataError(f"expected the weights of a {part} drawer: {error}") from error
        return made
