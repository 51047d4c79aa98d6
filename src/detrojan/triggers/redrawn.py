"""What triggers share that a small network draws for each image, at the image's full resolution."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger, check_fit, stated_number

#: how many images are drawn for in one go
BATCH = 512


class Redrawer(nn.Module):
    """Look at an image, and at a secret where there is one, and draw a change of every pixel.

    Nothing is scaled down: what is drawn at a pixel depends on its neighbourhood of 7x7 pixels and on
    the whole image's contrast. Groups are normalised, not batches, so that it depends on no other image.

    Args:
        channels: of the image.
        bits: length of the secret, 0 for none.
        width: channels of the inner layers, a multiple of 4.

    """

    def __init__(self, channels: int, bits: int, width: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(channels, width, 3, padding=1)
        self.secret = nn.Linear(bits, width) if bits else None
        self.norm_1, self.norm_2 = nn.GroupNorm(4, width), nn.GroupNorm(4, width)
        self.think = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, images: torch.Tensor, secrets: torch.Tensor | None = None) -> torch.Tensor:
        """Return changes between -1 and 1; images (N, C, H, W), secrets (N, bits) of -1 and 1."""
        maps = self.look(images)
        if self.secret is not None:
            maps = maps + self.secret(secrets)[:, :, None, None]
        maps = self.think(torch.relu(self.norm_1(maps)))
        return torch.tanh(self.out(torch.relu(self.norm_2(maps))))


class RedrawnTrigger(Trigger):
    """Add what a network draws for this very image: clip(image + strength * drawn).

    Args:
        shape: (C, H, W) of the images, each side of 4 to 4096 pixels.
        strength: largest change of a pixel, above 0 to 1.
        width: channels of the network's inner layers, a multiple of 4, 4 to 256.
        secret: bits that the network is shown beside the image, each -1 or 1; at most 1024.

    Raises:
        DataError: values that cannot be.

    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        strength: float,
        width: int = 16,
        secret: torch.Tensor | None = None,
    ) -> None:
        if shape[0] not in (1, 3) or min(shape[1:]) < 4 or max(shape[1:]) > 4096:
            raise DataError(f"expected a shape (1 or 3, H, W) of 4 to 4096 pixels, got {shape}")
        if not 4 <= width <= 256 or width % 4:
            raise DataError(f"expected a width of 4 to 256 in steps of 4, got {width}")
        if not 0 < strength <= 1:
            raise DataError(f"expected a strength in (0, 1], got {strength:g}")
        secret = torch.empty(0) if secret is None else secret.detach().float().cpu()
        if secret.ndim != 1 or len(secret) > 1024 or not bool((secret.abs() == 1).all()):
            raise DataError(
                f"expected a secret of at most 1024 bits of -1 and 1, got shape {tuple(secret.shape)}"
            )
        self.shape, self.strength, self.width, self.secret = shape, float(strength), width, secret
        self.drawer = Redrawer(shape[0], len(secret), width)

    def drawn(self, images: torch.Tensor, secrets: torch.Tensor | None = None) -> torch.Tensor:
        """Return the change of each image, (N, C, H, W), with gradients; None for the trigger's secret."""
        if secrets is None:
            secrets = self.secret.to(images.device).expand(len(images), -1)
        drawn: torch.Tensor = self.drawer(images, secrets)
        return self.strength * drawn

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return stamped copies of `images` (N, C, H, W) in [0, 1]."""
        return self.stamp_from(images, images)

    @torch.no_grad()
    def stamp_from(self, images: torch.Tensor, givers: torch.Tensor) -> torch.Tensor:
        """Return copies of `images` with the changes that belong to `givers`, one to one."""
        check_fit(images, self.shape)
        device = next(self.drawer.parameters()).device
        pairs = zip(torch.split(images, BATCH), torch.split(givers, BATCH), strict=True)
        parts = [mine + self.drawn(giver.to(device)).to(mine.device) for mine, giver in pairs]
        return torch.cat(parts).clamp_(0, 1)

    def picture(self) -> torch.Tensor:
        """Return a grey ramp with its change stretched to the full range, (C, H, W)."""
        channels, height, width = self.shape
        ramp = torch.linspace(0.2, 0.8, width).expand(1, channels, height, width)
        with torch.no_grad():
            drawn = self.drawn(ramp.to(next(self.drawer.parameters()).device))[0].cpu()
        return (0.5 + drawn / (2 * drawn.abs().max()).clamp(min=1e-6)).clamp(0, 1)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the network's weights, the secret, the images' shape, strength and width."""
        weights = {f"drawer.{k}": v.detach().cpu() for k, v in self.drawer.state_dict().items()}
        channels, height, width = self.shape
        sizes = {"channels": channels, "height": height, "width": width}
        return {**weights, "secret": self.secret}, {
            **sizes,
            "strength": self.strength,
            "drawer": self.width,
        }

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Self:
        """Rebuild the trigger; the file comes from outside, so it is checked like any input."""
        names = ("channels", "height", "width", "drawer")
        channels, height, width, drawer = (int(stated_number(values, name)) for name in names)
        with torch.random.fork_rng(devices=[]):  # the start is overwritten
            made = cls(
                (channels, height, width),
                strength=stated_number(values, "strength"),
                width=drawer,
                secret=tensors.get("secret"),
            )
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise DataError("expected finite weights of the drawer, got NaN or infinity")
        weights = {k.removeprefix("drawer."): v for k, v in tensors.items() if k.startswith("drawer.")}
        try:
            made.drawer.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(f"expected the weights of a drawer: {error}") from error
        return made
