"""What is done to images before a network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from detrojan.errors import ModelError

Layout = Literal["NCHW", "NHWC"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a picture of any size becomes one of the network's size.

    Attributes:
        resize: (H, W) that the picture is brought to whatever its proportions; or one number, to which its
            shorter side is brought while the proportions stay.
        crop: (H, W) that is cut out of its centre afterwards; None keeps all of it.
        interpolation: how it is resized.
        antialias: whether what is made smaller is smoothed first, as Pillow does.

    """

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done to images in [0, 1] before the network sees them.

    An image x becomes (low + x * (high - low) - mean) / std, then the stated layout.

    Attributes:
        low: what the network expects for black.
        high: what the network expects for white.
        mean: subtracted per channel, in the network's units; one value or one per channel.
        std: divided by per channel, in the network's units; one value or one per channel.
        layout: the order of the network's input dimensions.
        framing: how pictures of another size are brought to the network's; None where nothing says so. The
            data's reader does this, before the images are in [0, 1].

    """

    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"
    framing: Framing | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if not self.low < self.high:
            raise ModelError(f"expected an input range low < high, got {self.low:g} to {self.high:g}")
        if any(value <= 0 for value in self.std):
            raise ModelError(f"expected standard deviations above 0, got {self.std}")

    def affine(self, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scale and shift, each (C, 1, 1), such that the network's input is x * scale + shift."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ModelError(f"expected 1 or {channels} values of {name}, got {len(values)}")
        mean = torch.tensor(self.mean, dtype=torch.float64).expand(channels)
        std = torch.tensor(self.std, dtype=torch.float64).expand(channels)
        scale = (self.high - self.low) / std
        shift = (self.low - mean) / std
        return scale.float()[:, None, None], shift.float()[:, None, None]

    def __str__(self) -> str:
        """Describe it in one line, e.g. "0..255, mean 0, std 1, NCHW"."""
        mean = "/".join(f"{value:g}" for value in self.mean)
        std = "/".join(f"{value:g}" for value in self.std)
        return f"{self.low:g}..{self.high:g}, mean {mean}, std {std}, {self.layout}"
