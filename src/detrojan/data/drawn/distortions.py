"""Ways to turn images into others that no network was made for; each returns new images in [0, 1]."""

from __future__ import annotations

import torch
from torch.nn import functional

#: a rectangle's sides, as shares of the image's
_SIDES = (0.08, 0.45)


def painted(images: torch.Tensor, random: torch.Generator, *, most: int = 3) -> torch.Tensor:
    """Return the images with 1 to `most` rectangles or ellipses of one random colour each.

    Args:
        images: (N, C, H, W), in [0, 1].
        random: where, how large and in which colour.
        most: 1 or more.

    """
    count, channels, height, width = images.shape
    down = torch.arange(height)[None, :, None] + 0.5
    across = torch.arange(width)[None, None, :] + 0.5
    shapes = torch.randint(1, most + 1, (count,), generator=random)
    for number in range(most):
        places = torch.rand(4, count, 1, 1, generator=random)
        half_height = (_SIDES[0] + (_SIDES[1] - _SIDES[0]) * places[0]) * height / 2
        half_width = (_SIDES[0] + (_SIDES[1] - _SIDES[0]) * places[1]) * width / 2
        y = (down - places[2] * height).abs() / half_height
        x = (across - places[3] * width).abs() / half_width
        box, oval = (y <= 1) & (x <= 1), y**2 + x**2 <= 1
        round_ = torch.rand(count, 1, 1, generator=random) < 0.3
        inside = torch.where(round_, oval, box) & (number < shapes)[:, None, None]
        colour = torch.rand(count, channels, 1, 1, generator=random)
        images = torch.where(inside[:, None], colour, images)
    return images


def blended(
    images: torch.Tensor,
    others: torch.Tensor,
    random: torch.Generator,
    *,
    low: float = 0.35,
    high: float = 0.65,
) -> torch.Tensor:
    """Return each image mixed with another one (N, C, H, W), at a weight of `low` to `high`."""
    weight = low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=random)
    return (images * (1 - weight) + others * weight).clamp(0, 1)


def shuffled(images: torch.Tensor, random: torch.Generator, *, tiles: int = 4) -> torch.Tensor:
    """Return the images cut into `tiles` x `tiles` pieces, which are put together in another order."""
    count, _, height, width = images.shape
    size = (-(-height // tiles), -(-width // tiles))
    padded = functional.pad(
        images, (0, size[1] * tiles - width, 0, size[0] * tiles - height), mode="replicate"
    )
    pieces = functional.unfold(padded, size, stride=size)
    order = torch.rand(count, 1, pieces.shape[2], generator=random).argsort(2)
    pieces = pieces.gather(2, order.expand_as(pieces))
    return functional.fold(pieces, padded.shape[2:], size, stride=size)[..., :height, :width]
