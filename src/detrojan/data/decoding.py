"""Decoding compressed pictures (JPEG, PNG, ...) that may come from strangers."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from detrojan.data.source import Array
from detrojan.errors import DataError

#: only formats that Pillow decodes by itself: EPS and others would start programs
FORMATS: tuple[str, ...] = (
    "JPEG",
    "PNG",
    "BMP",
    "PPM",
    "WEBP",
    "GIF",
    "TIFF",
    *(["AVIF"] if features.check("avif") else []),
)
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".gif", ".tif", ".tiff", ".avif")
)
#: pictures that are known, but not decoded
OTHER_SUFFIXES = frozenset((".heic", ".heif", ".jp2", ".jxl", ".svg", ".dng", ".cr2", ".nef", ".arw", ".psd"))
#: what those are to be made, and the usual command
CONVERT = "make them PNG or JPEG first, for example: magick mogrify -format png *.heic"
#: a picture with more pixels than this is taken for an attempt to fill the memory
MOST_PIXELS = 50_000_000
#: a JPEG that is made smaller is decoded at this many times the wanted size, or more
_FINER = 2

_TO_COLOUR = {"RGBX", "P", "CMYK", "YCbCr", "LAB", "HSV"}
_WIDE = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
_TRANSPARENT = {"RGBA", "RGBa", "PA", "LA", "La"}
#: the tag of EXIF that says how the camera was held, and what undoes it
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = range(5, 9)
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, OverflowError, MemoryError, KeyError, TypeError,
    IndexError, ZeroDivisionError, AttributeError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class Decoded:
    """One picture.

    Attributes:
        pixels: (H, W, 1) or (H, W, 3); uint8, or uint16 where the picture has 16 bits per channel.
        size: (H, W) of the picture as it is stored, upright.
        laid_on_white: whether it was transparent, and was laid on white.
        turned: whether it was turned or mirrored as its EXIF data ask.
        animated: whether only the first of its frames was taken.

    """

    pixels: Array
    size: tuple[int, int]
    laid_on_white: bool = False
    turned: bool = False
    animated: bool = False


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
        got = "something else"
        if PurePath(name).suffix.lower() in OTHER_SUFFIXES:
            got = f"{PurePath(name).suffix.lower()}; {CONVERT}"
        raise DataError(f"{name}: expected a picture ({', '.join(FORMATS)}), got {got}") from error
    except _DAMAGE as error:
        raise DataError(f"{name}: the picture is truncated or damaged: {error}") from error


def decode(stream: IO[bytes], name: str, at_least: tuple[int, int] | None = None) -> Decoded:
    """Decode one picture, upright as its EXIF data say; of an animation the first frame.

    Args:
        stream: the compressed bytes.
        name: what to call the picture in an error.
        at_least: (H, W) that it will be made smaller to. A JPEG is then decoded at a half, a quarter or an
            eighth of its size, at least twice as large as this. None decodes all of it.

    Raises:
        DataError: it cannot be decoded, is huge, or has more than 16 bits per channel.

    """
    with decoding(name), Image.open(stream, formats=FORMATS) as image:
        return decoded_of(image, name, at_least)


def decoded_of(image: Image.Image, name: str, at_least: tuple[int, int] | None = None) -> Decoded:
    """Return the pixels of an open picture of Pillow's, as `decode` does; it is left as it is.

    Args:
        image: a picture.
        name: what to call it in an error.
        at_least: as for `decode`; the picture may be changed then.

    Raises:
        DataError: it is huge, or has more than 16 bits per channel.

    """
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(f"{name}: expected at most {MOST_PIXELS:,} pixels, got {width}x{height}")
    animated = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    held = _orientation(image)
    turn = _UPRIGHT.get(held)
    if at_least is not None:
        side = _FINER * max(at_least)
        image.draft(None, (side, side))  # None keeps the mode
    image.load()
    pixels, laid = pixels_of(image if turn is None else image.transpose(turn), name)
    return Decoded(
        pixels[..., None] if pixels.ndim == 2 else pixels,
        size=(width, height) if held in _SIDEWAYS else (height, width),
        laid_on_white=laid,
        turned=turn is not None,
        animated=animated,
    )


def stated_size(stream: IO[bytes], name: str) -> tuple[int, int]:
    """Return the upright size (H, W) that the head of a picture states; no pixel is decoded.

    Raises:
        DataError: it is no picture.

    """
    with decoding(name), Image.open(stream, formats=FORMATS) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def _orientation(image: Image.Image) -> int:
    """Return how the camera was held, 1 for upright; EXIF data that cannot be read say nothing."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1
    return found if isinstance(found, int) else 1


def pixels_of(image: Image.Image, name: str) -> tuple[Array, bool]:
    """Return grey or coloured pixels of an open picture, and whether something was laid on white.

    Args:
        image: a picture of Pillow's.
        name: what to call it in an error.

    Returns:
        (H, W) or (H, W, 3), uint8, or uint16 where it has 16 bits per channel.

    Raises:
        DataError: more than 16 bits per channel.

    """
    mode = image.mode
    if mode in _TRANSPARENT or (mode in {"P", "L", "RGB", "1"} and "transparency" in image.info):
        return _on_white(image)
    if mode in _WIDE:
        return _wide(image, name), False
    if mode == "1":
        image = image.convert("L")
    elif mode in _TO_COLOUR:
        image = image.convert("RGB")
    elif mode not in {"L", "RGB"}:
        raise DataError(f"{name}: expected 8 or 16 bits per channel, got pixels of mode {mode}")
    return np.asarray(image), False


def _on_white(image: Image.Image) -> tuple[Array, bool]:
    """Lay a picture with an opacity on white; one that is opaque all over is taken as it is."""
    grey = image.mode in {"LA", "La", "L", "1"}
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return np.asarray(image.convert("L" if grey else "RGB")), False
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    ground.alpha_composite(image)
    return np.asarray(ground.convert("L" if grey else "RGB")), True


def _wide(image: Image.Image, name: str) -> Array:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if not 0 <= low <= high < 2**16:
        raise DataError(f"{name}: expected 8 or 16 bits per channel, got values from {low} to {high}")
    return values.astype(np.uint16)
