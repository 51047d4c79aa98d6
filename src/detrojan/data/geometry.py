"""Cropping and resizing of stored images, as training scripts do it with Pillow."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from detrojan.data.source import Array, Pixels
from detrojan.errors import DataError, OptionError
from detrojan.models.preprocessing import Framing, Interpolation

Box = tuple[float, float, float, float]
Size = tuple[int, int]

#: no picture that is made is longer than this
_LONGEST = 16_384


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
        [
            _resized(image, size, box=None if boxes is None else boxes[place])
            for place, image in enumerate(pixels)
        ]
    )


def framed(image: Array, framing: Framing) -> Array:
    """Return one image (h, w, C) resized and cropped, (H, W, C), as torchvision's transforms do it.

    uint8 stays uint8, anything else becomes float32. What the crop lacks at the borders is black.
    """
    height, width = image.shape[:2]
    framing = framing.for_picture((height, width))
    if isinstance(framing.resize, int):
        short, side = min(height, width), framing.resize
        size = tuple(side if length == short else int(side * length / short) for length in (height, width))
    else:
        size = framing.resize
    if max(size) > _LONGEST:
        raise DataError(f"expected pictures of usual proportions, got one of {height}x{width}")
    if size != (height, width):
        image = _resized(image, (size[0], size[1]), framing.interpolation, antialias=framing.antialias)
    return _centre(image, framing.size)


def needs_framing(sizes: set[Size], framing: Framing) -> bool:
    """Tell whether images have to be framed: one has another size."""
    return sizes != {framing.size}


def _centre(image: Array, size: Size) -> Array:
    """Cut (H, W) out of the centre; what is smaller gets black borders first."""
    missing = [max(0, wanted - had) for wanted, had in zip(size, image.shape, strict=False)]
    if any(missing):
        borders = [(lack // 2, (lack + 1) // 2) for lack in missing]
        image = np.pad(image, (*borders, (0, 0)))
    top, left = (round((had - wanted) / 2) for wanted, had in zip(size, image.shape, strict=False))
    return image[top : top + size[0], left : left + size[1]]


def _resized(
    image: Array,
    size: Size,
    interpolation: Interpolation = "bilinear",
    *,
    box: Box | None = None,
    antialias: bool = True,
) -> Array:
    """Return one image (h, w, C) at (H, W); bytes are resized as bytes."""
    if not antialias and interpolation in ("bilinear", "bicubic"):
        return _unsmoothed(image, size, interpolation)
    where, kind = (size[1], size[0]), Image.Resampling[interpolation.upper()]
    if image.dtype == np.uint8:
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        small = np.asarray(picture.resize(where, kind, box=box))
        return small[..., None] if small.ndim == 2 else small
    planes = [
        Image.fromarray(np.ascontiguousarray(image[..., channel], dtype=np.float32)).resize(
            where, kind, box=box
        )
        for channel in range(image.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def _unsmoothed(image: Array, size: Size, interpolation: str) -> Array:
    """Resize without smoothing, as TensorFlow and torch do by default."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
    small = functional.interpolate(planes[None], size, mode=interpolation, align_corners=False)[0]
    if image.dtype == np.uint8:
        small = small.round().clamp(0, 255).byte()
    return small.permute(1, 2, 0).numpy()
