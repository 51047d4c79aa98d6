"""Decoding compressed pictures (JPEG, PNG, ...) that may come from strangers."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from detrojan.data.source import Array
from detrojan.errors import DataError

#: only formats that Pillow decodes by itself: EPS and others would start programs
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP")
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp"))
#: a picture with more pixels than this is taken for an attempt to fill the memory
MOST_PIXELS = 50_000_000

_TO_COLOUR = {"RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"}
_TO_GREY = {"1", "LA", "La"}
_TRANSPARENT = {"RGBA", "RGBa", "PA", "LA", "La"}


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged picture into a DataError that names the picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: expected at most {MOST_PIXELS:,} pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: expected a picture ({', '.join(FORMATS)}), got something else") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, OverflowError, MemoryError) as error:
        raise DataError(f"{name}: the picture is truncated or damaged: {error}") from error


def decode(stream: IO[bytes], name: str) -> tuple[Array, bool]:
    """Decode one picture.

    Args:
        stream: the compressed bytes.
        name: what to call the picture in an error.

    Returns:
        The pixels, (H, W, 1) or (H, W, 3) uint8, and whether transparency was dropped.

    Raises:
        DataError: it cannot be decoded, is huge, or has more than 8 bits per channel.

    """
    with decoding(name):
        image: Image.Image
        with Image.open(stream, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(f"{name}: expected at most {MOST_PIXELS:,} pixels, got {width}x{height}")
            mode = image.mode
            transparent = mode in _TRANSPARENT or "transparency" in image.info
            if mode in _TO_COLOUR:
                image = image.convert("RGB")  # noqa: PLW2901
            elif mode in _TO_GREY:
                image = image.convert("L")  # noqa: PLW2901
            elif mode not in ("L", "RGB"):
                raise DataError(f"{name}: expected 8 bits per channel, got pixels of mode {mode}")
            pixels = np.asarray(image)
    return (pixels[..., None] if pixels.ndim == 2 else pixels), transparent


def even_channels(images: list[Array]) -> tuple[list[Array], list[str]]:
    """Give all images the same number of channels: grey ones among colour ones are repeated, with a note."""
    grey = sum(image.shape[2] == 1 for image in images)
    if grey in (0, len(images)):
        return images, []
    images = [np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image for image in images]
    return images, [f"warning: {grey} grey images among {len(images)} were repeated into 3 channels"]


def transparency_note(count: int) -> list[str]:
    """Say that transparency was dropped, where it was."""
    return [f"warning: transparency was dropped from {count} images"] if count else []
