"""Reads images one at a time, into memory that is asked for once; what cannot be read is skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.decoding import Decoded
from detrojan.data.decoding_apart import decoded, stated_sizes
from detrojan.data.geometry import Size
from detrojan.data.pixels import Extent, Range, Scale, choose_scale
from detrojan.data.shaping import Shaping
from detrojan.data.source import SAMPLE, Source
from detrojan.errors import DataError
from detrojan.quarantine import check_room
from detrojan.quarantine.limits import stored_size

_TOLD = {
    "laid_on_white": "warning: {} pictures with transparency were laid on white",
    "turned": "{} pictures were turned upright as their EXIF data ask",
    "animated": "warning: {} pictures are animated: their first frames were taken",
}


@dataclass
class Canvas:
    """Images of one size, put one after the other into one array.

    Attributes:
        count: how many there will be.
        where: the file or folder, for error texts.
        images: (count, C, H, W) in [0, 1]; there is none before the first image is put.

    """

    count: int
    where: str
    images: NDArray[np.float32] | None = None
    places: list[int] = field(default_factory=list)
    grey: int = 0

    def put(self, place: int, image: NDArray[np.float32]) -> None:
        """Put one image (H, W, C); a grey one among coloured ones is repeated.

        Raises:
            DataError: it has another size than those before, or the memory does not hold them all.

        """
        height, width, channels = image.shape
        if self.images is None:
            self.images = self._blank((channels, height, width))
        _, before, *size = self.images.shape
        if (height, width) != tuple(size):
            raise DataError(
                f"{self.where}: expected images of one size, got {size[0]}x{size[1]} and {height}x{width}; "
                "--resize HxW brings them to one (in Python input_shape=(C, H, W) of the model)"
            )
        if channels > before:
            grey = self.images
            self.images = self._blank((channels, height, width))
            self.images[self.places] = grey[self.places]
        self.grey += channels == 1
        self.images[place] = image.transpose(2, 0, 1)
        self.places.append(place)

    def _blank(self, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        size = 4 * self.count * int(np.prod(shape))
        whole = memory()
        if size > whole:
            shown = "x".join(map(str, shape))
            raise DataError(
                f"{self.where}: expected images that fit into the memory, got {self.count:,} of {shown}, "
                f"which take {size / 2**30:.3g} GiB of {whole / 2**30:.3g}; take fewer with --samples N"
            )
        return np.empty((self.count, *shape), dtype=np.float32)

    def taken(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the images that were put, in the order of their places, and those places."""
        assert self.images is not None
        places = sorted(self.places)
        for new, old in enumerate(places):
            if new != old:
                self.images[new] = self.images[old]
        return self.images[: len(places)], np.asarray(places, dtype=np.int64)

    def notes(self) -> list[str]:
        """Say that grey images were repeated, where some were."""
        if self.grey in (0, len(self.places)):
            return []
        return [f"warning: {self.grey} grey images among {len(self.places)} were repeated into 3 channels"]


def memory() -> int:
    """Return how much memory the machine has, in bytes; what cannot be told counts as endless."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**62


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Images that were read.

    Attributes:
        images: (n, C, H, W) in [0, 1].
        places: which of those that were asked for they are, (n,), rising.
        sizes: (H, W) that they had before.
        notes: what a person should know about how.
        skipped: what could not be read, each with the reason.

    """

    images: NDArray[np.float32]
    places: NDArray[np.int64]
    sizes: set[Size]
    notes: list[str]
    skipped: list[str] = field(default_factory=list)


def draw_pictures(
    source: Source, index: NDArray[np.int64], stated: Range | None, shaping: Shaping, *, strict: bool
) -> Drawn:
    """Decode the pictures at `index`, one at a time.

    Args:
        source: where they are.
        index: positions (n,).
        stated: the stored values of black and white, or None for 0 to 255 (65535 with 16 bits).
        shaping: how they get their size.
        strict: refuse a picture that cannot be decoded, instead of skipping it.

    Raises:
        DataError: none can be decoded, they are of different sizes, or, if `strict`, one is broken.
        RangeError: values outside the stated range.
        UnsafeFileError: something that is no plain file.

    """
    assert source.pictures is not None
    canvas, seen = Canvas(len(index), source.where), _Seen()
    if shaping.asks_sizes:
        shaping.prepare(stated_sizes(source.pictures(index)))
    skipped: list[str] = []
    for place, found in decoded(source.pictures(index), shaping.at_least):
        if isinstance(found, DataError):
            if strict:
                raise found
            skipped.append(str(found))
            continue
        seen.add(found)
        scale = _scale(found.pixels.dtype, stated)
        canvas.put(place, scale.apply(shaping(found.pixels, place)))
    if not canvas.places:
        more = f" (and {len(skipped) - 1:,} more that cannot be read)" if len(skipped) > 1 else ""
        raise DataError(f"{skipped[0]}{more}" if skipped else f"{source.where}: expected pictures, got none")
    images, places = canvas.taken()
    notes = [*canvas.notes(), *seen.notes(stated, source.where), *_skipped_note(skipped, len(index))]
    return Drawn(images=images, places=places, sizes=seen.sizes, notes=notes, skipped=skipped)


def draw_arrays(source: Source, index: NDArray[np.int64], stated: Range | None, shaping: Shaping) -> Drawn:
    """Read the arrays at `index`.

    Args:
        source: where they are.
        index: positions (n,).
        stated: the stored values of black and white, or None.
        shaping: how they get their size.

    Raises:
        DataError: images of different sizes, or that are not numbers.
        RangeError: values outside the range.

    """
    assert source.fetch is not None
    pixels, notes = source.fetch(index)
    taken = 4 * sum(image.size for image in pixels)  # as float32
    check_room(
        taken, f"{source.where}: its images", DataError, files=stored_size(Path(source.where)), way_out=SAMPLE
    )
    # the range is judged before resizing, which would hide single pixels that are outside
    scale = choose_scale(pixels, stated, source.where, bytes_in_floats=source.bytes_in_floats)
    sizes = {(image.shape[0], image.shape[1]) for image in pixels}
    shaping.prepare(sizes)
    canvas = Canvas(len(index), source.where)
    for place, image in enumerate(pixels):
        canvas.put(place, scale.apply(shaping(image, place)))
    images, places = canvas.taken()
    return Drawn(images=images, places=places, sizes=sizes, notes=[*notes, *scale.notes])


def _scale(dtype: np.dtype[np.generic], stated: Range | None) -> Scale:
    low, high = stated or (0, 255 if dtype == np.uint8 else 65535)
    return Scale(low, high, ())


def facts_of(decoded: Decoded) -> list[str]:
    """Return what a person should know about how a picture was decoded, to be counted for `told_of`."""
    return [name for name in _TOLD if getattr(decoded, name)]


def told_of(counts: Mapping[str, int]) -> list[str]:
    """Return the notes for how many pictures each of `facts_of` holds."""
    return [text.format(counts[name]) for name, text in _TOLD.items() if counts.get(name)]


class _Seen:
    """What pictures were like, for the notes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.extents: dict[np.dtype[np.generic], Extent] = {}
        self.sizes: set[Size] = set()

    def add(self, decoded: Decoded) -> None:
        self.counts.update(facts_of(decoded))
        extent = Extent.of(decoded.pixels, "")
        self.extents[extent.dtype] = extent.joined(self.extents.get(extent.dtype))
        self.sizes.add(decoded.size)

    def notes(self, stated: Range | None, where: str) -> list[str]:
        """Return the notes, and refuse values outside the stated range."""
        if stated is not None and len(self.extents) > 1:
            raise DataError(
                f"{where}: expected pictures of one depth with a stated range, got some of 8 and some of 16 "
                "bits per channel"
            )
        notes = told_of(self.counts)
        for dtype, extent in self.extents.items():
            if stated is None and dtype == np.uint16:
                notes.append("16 bits per channel / 65535")
            else:
                notes += choose_scale(extent, stated, where).notes
        return notes


def _skipped_note(skipped: list[str], count: int) -> list[str]:
    if not skipped:
        return []
    return [f"warning: {len(skipped)} of {count} pictures cannot be read and were skipped ({skipped[0]})"]
