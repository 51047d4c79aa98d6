"""Cropping and resizing of stored images, bilinear, as training scripts do it with Pillow."""

from __future__ import annotations

import numpy as np
from PIL import Image

from detrojan.data.source import Array, Pixels
from detrojan.errors import DataError, OptionError

Box = tuple[float, float, float, float]
Size = tuple[int, int]


def crop_boxes(roi: Array, frames: list[Size], where: str, *, first: int = 0) -> list[Box]:
    """Return the box of each image to cut out, in its own pixels.

    Args:
        roi: (N, 6), per image width and height of the original frame, then x1, y1, x2, y2 in it.
        frames: (H, W) of each image, which shows the whole frame.
        where: the file, for error texts.
        first: the number of the first image, for error texts.

    Raises:
        DataError: a region that is empty or outside its frame.

    """
    if roi.ndim != 2 or roi.shape[1] != 6:
        raise DataError(f"{where}: expected roi (N, 6): width, height, x1, y1, x2, y2; got {roi.shape}")
    boxes = []
    for place, ((w, h, x1, y1, x2, y2), (height, width)) in enumerate(
        zip(roi.astype(float).tolist(), frames, strict=True)
    ):
        if not (0 <= x1 < x2 <= w and 0 <= y1 < y2 <= h):
            raise DataError(
                f"{where}: expected a region within the frame of {w:g}x{h:g}, "
                f"got {x1:g}, {y1:g} to {x2:g}, {y2:g} (image {first + place} of those read)"
            )
        boxes.append((x1 * width / w, y1 * height / h, x2 * width / w, y2 * height / h))
    return boxes


def resample(pixels: Pixels, size: Size, boxes: list[Box] | None = None) -> Array:
    """Return all images at one size, (N, H, W, C), bilinear.

    Args:
        pixels: images (h, w, C); uint8 stays uint8, anything else becomes float32.
        size: (H, W) of the result.
        boxes: what to cut out of each image first, or None for all of it.

    Raises:
        OptionError: the size is not of 1 to 4096 pixels.

    """
    if not all(1 <= side <= 4096 for side in size):
        raise OptionError(f"expected a size of 1 to 4096 pixels, got {size[0]}x{size[1]}")
    return np.stack(
        [_one(image, size, None if boxes is None else boxes[place]) for place, image in enumerate(pixels)]
    )


def _one(image: Array, size: Size, box: Box | None) -> Array:
    height, width = size
    if image.dtype == np.uint8:
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))
        return small[..., None] if small.ndim == 2 else small
    planes = [
        Image.fromarray(np.ascontiguousarray(image[..., channel], dtype=np.float32)).resize(
            (width, height), Image.Resampling.BILINEAR, box=box
        )
        for channel in range(image.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)
