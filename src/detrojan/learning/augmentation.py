"""What changes a training's images from pass to pass: moved, turned, recoloured, mixed."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional

#: given the images of a batch (B, C, H, W) and a generator, returns what is trained on instead
Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def shift(pixels: int = 2, *, flip: bool = False) -> Augment:
    """Return an augmentation: shifts of up to `pixels` in both directions, optionally mirrored."""

    def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count, _, height, width = images.shape
        padded = functional.pad(images, (pixels,) * 4, mode="replicate")
        top = torch.randint(2 * pixels + 1, (count, 1, 1), generator=generator)
        left = torch.randint(2 * pixels + 1, (count, 1, 1), generator=generator)
        columns = left + torch.arange(width)
        if flip:
            mirrored = torch.rand(count, 1, 1, generator=generator) < 0.5
            columns = torch.where(mirrored, columns.flip(-1), columns)
        rows = top + torch.arange(height)[:, None]
        sample = torch.arange(count)[:, None, None]
        moved = padded.permute(0, 2, 3, 1)[sample, rows, columns]
        return moved.permute(0, 3, 1, 2)

    return augment


def turned(pixels: int = 4, *, degrees: float = 15.0, scale: float = 0.2) -> Augment:
    """Return an augmentation: shifts, turns, changes of size, and half of the images mirrored.

    Args:
        pixels: shifts of up to so many in both directions.
        degrees: turns of up to so many either way.
        scale: at most so much larger or smaller, 0 to below 1.

    """

    def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count, _, height, width = images.shape
        draws = 2 * torch.rand(5, count, generator=generator) - 1
        angle, size = draws[0] * math.radians(degrees), 1 + scale * draws[1]
        mirrored = torch.where(draws[2] < 0, -1.0, 1.0)
        down, across = draws[3] * 2 * pixels / height, draws[4] * 2 * pixels / width
        cosine, sine = angle.cos() / size, angle.sin() / size
        # the grid's units are half a side: what turns a picture that is not square has to know
        rows = torch.stack(
            [
                torch.stack([cosine * mirrored, -sine * height / width, across], 1),
                torch.stack([sine * mirrored * width / height, cosine, down], 1),
            ],
            1,
        ).to(images)
        grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    return augment


def recoloured(first: Augment, most: float = 0.3) -> Augment:
    """Return `first`, and then another contrast, by up to `most`, and channel means, by half of that."""

    def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = first(images, generator)
        count, channels = images.shape[:2]
        draws = 2 * torch.rand(count, 1 + channels, 1, 1, generator=generator).to(images) - 1
        contrast, tint = 1 + most * draws[:, :1], 1 + most / 2 * draws[:, 1:]
        mean = images.mean((2, 3), keepdim=True)
        return ((images - mean) * contrast + mean * tint).clamp(0, 1)

    return augment


def blended(first: Augment, most: float = 0.5) -> Augment:
    """Return `first`, and then another image of the batch laid over each, up to `most` opaque.

    It is for trainings in which a teacher answers the very images: no label is right for a blend.
    """

    def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = first(images, generator)
        others = images[torch.randperm(len(images), generator=generator)]
        return images.lerp(others, most * torch.rand(len(images), 1, 1, 1, generator=generator))

    return augment


def pasted(first: Augment, share: float = 0.5, most: float = 0.5) -> Augment:
    """Return `first`, and then, in a share of the images, a rectangle of another image of the batch.

    It covers up to `most` of the area. As for blends, no label is right for the outcome.
    """

    def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = first(images, generator)
        count, _, height, width = images.shape
        others = images[torch.randperm(count, generator=generator)]
        side = (most * torch.rand(count, 1, 1, generator=generator)).sqrt()
        tall, wide = (side * height).floor(), (side * width).floor()
        places = torch.rand(3, count, 1, 1, generator=generator)
        top = (places[0] * (height - tall + 1)).floor()
        left = (places[1] * (width - wide + 1)).floor()
        down, across = torch.arange(height)[:, None], torch.arange(width)
        inside = (down >= top) & (down < top + tall) & (across >= left) & (across < left + wide)
        inside &= places[2] < share
        return torch.where(inside[:, None].to(images.device), others, images)

    return augment


def varied(pixels: int = 4) -> Augment:
    """Return all of them, one after the other: turned, recoloured, blended, pasted."""
    return pasted(blended(recoloured(turned(pixels))))
