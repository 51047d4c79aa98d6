"""Images made up on the spot, of any shape: stand-ins where there are no data at all."""

from __future__ import annotations

import hashlib
import math

import torch

from detrojan.data.dataset import Dataset
from detrojan.data.drawn.distortions import blended, painted
from detrojan.errors import OptionError

#: the source of a data set that is made up, and the word for it on the command line
NONE = "none"
#: photographs' amplitude falls with the frequency to about this power
_SLOPES = (0.6, 1.8)
#: how much of the variation all colours share
_GREY = 0.8


def synthetic(count: int, shape: tuple[int, int, int], *, seed: int = 0) -> Dataset:
    """Return images that resemble photographs in their statistics alone, without labels.

    A quarter each: smooth 1/f noise, colour gradients with shapes on them, shapes on smooth noise,
    and blends of all these.

    Args:
        count: number of images, 1 or more.
        shape: (C, H, W) of one image; C is 1 or 3.
        seed: equal seeds (with equal count and shape) give equal images.

    Raises:
        OptionError: a count below 1.

    """
    if count < 1:
        raise OptionError(f"expected at least 1 image to be made up, got {count}")
    random = torch.Generator().manual_seed(seed)
    part = math.ceil(count / 4)
    clouds = smooth_noise(part, shape, random)
    shapes = painted(gradients(part, shape, random), random, most=5)
    mixed = painted(smooth_noise(part, shape, random), random, most=4)
    plain = torch.cat([clouds, shapes, mixed])
    both = blended(plain[:part], plain[torch.randperm(len(plain), generator=random)[:part]], random)
    images = torch.cat([plain, both])
    images = images[torch.randperm(len(images), generator=random)[:count]]
    return Dataset(
        images=images,
        source=NONE,
        sha256=hashlib.sha256(images.numpy().tobytes()).hexdigest(),
        notes=(f"{count} images made up of noise, gradients and shapes, seed {seed}", "no labels"),
    )


def is_made_up(data: Dataset) -> bool:
    """Tell whether the images are such stand-ins."""
    return data.source == NONE and data.labels is None


def noise(count: int, shape: tuple[int, int, int], random: torch.Generator) -> torch.Tensor:
    """Return uniform noise per pixel and colour (count, C, H, W)."""
    return torch.rand(count, *shape, generator=random)


def smooth_noise(count: int, shape: tuple[int, int, int], random: torch.Generator) -> torch.Tensor:
    """Return clouds (count, C, H, W): noise whose amplitude falls with the frequency as in photographs."""
    channels, height, width = shape
    white = torch.randn(count, channels, height, width, generator=random)
    grey = torch.randn(count, 1, height, width, generator=random)
    white = math.sqrt(_GREY) * grey + math.sqrt(1 - _GREY) * white
    down = torch.fft.fftfreq(height)[:, None]
    across = torch.fft.rfftfreq(width)[None, :]
    frequency = (down**2 + across**2).sqrt().clamp(min=1 / max(height, width))
    slope = _between(*_SLOPES, count, random)
    clouds = torch.fft.irfft2(torch.fft.rfft2(white) * frequency ** (-slope), s=(height, width))
    clouds = clouds - clouds.mean((1, 2, 3), keepdim=True)
    clouds = clouds / clouds.std((1, 2, 3), keepdim=True).clamp(min=1e-6)
    level, contrast = _between(0.25, 0.75, count, random), _between(0.08, 0.3, count, random)
    images: torch.Tensor = (level + contrast * clouds).clamp(0, 1)
    return images


def gradients(count: int, shape: tuple[int, int, int], random: torch.Generator) -> torch.Tensor:
    """Return images (count, C, H, W) that change from one colour to another in one direction."""
    channels, height, width = shape
    start, end = torch.rand(2, count, channels, 1, 1, generator=random)
    angle = _between(0, 2 * math.pi, count, random)
    down = torch.linspace(-1, 1, height)[:, None]
    across = torch.linspace(-1, 1, width)[None, :]
    place = (0.5 + 0.36 * (down * angle.sin() + across * angle.cos())).clamp(0, 1)
    images: torch.Tensor = start + (end - start) * place
    return images


def _between(low: float, high: float, count: int, random: torch.Generator) -> torch.Tensor:
    """Return one number per image (count, 1, 1, 1)."""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=random)
