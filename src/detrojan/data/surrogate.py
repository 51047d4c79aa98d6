"""Images of another size or colour, brought to what a network takes: stand-ins, and said to be such."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from detrojan.data.channels import made_grey
from detrojan.data.dataset import Dataset
from detrojan.data.geometry import resample
from detrojan.errors import DataError

#: proportions that differ by more than this factor are bent out of all recognition
MOST_BENT = 2.0


def surrogate(data: Dataset, shape: tuple[int, int, int]) -> Dataset:
    """Return the data with its images brought to (C, H, W), with notes that say how; labels stay.

    Colours become grey by their brightness, and the size is changed bilinearly. Images that fit are
    returned as they are.

    Raises:
        DataError: the proportions differ by more than a factor of 2, C is not 1 or 3, or grey for colours.

    """
    if data.shape == shape:
        return data
    (channels, height, width), (before, old_height, old_width) = shape, data.shape
    bent = (height / width) / (old_height / old_width)
    if not 1 / MOST_BENT <= bent <= MOST_BENT or channels not in (1, 3):
        raise DataError(
            f"{data.source}: expected images whose proportions are within a factor of {MOST_BENT:g} of "
            f"{height} high x {width} wide, of 1 or 3 channels, got {old_height} x {old_width} x {before}; "
            f"--resize {height}x{width} brings them to it all the same"
        )
    if before < channels:
        raise DataError(f"{data.source}: expected images of 3 channels (colour), got 1 (grey)")
    images, notes = data.images, []
    if before > channels:
        images = made_grey(images)
        notes.append("colour made grey")
    if (height, width) != (old_height, old_width):
        pixels = resample(images.permute(0, 2, 3, 1).numpy(), (height, width))
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        notes.append(f"resized from {old_height}x{old_width} to {height}x{width}, bilinear")
    return replace(data, images=images.clamp(0, 1).contiguous(), notes=(*data.notes, *notes))
