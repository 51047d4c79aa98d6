"""How stored images get the size that is wanted: cut, resized, or framed as a network takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from detrojan.data.geometry import Size, crop_boxes, framed, needs_framing, resample
from detrojan.data.source import Array, Source
from detrojan.errors import DataError
from detrojan.models.preprocessing import Framing

#: pictures whose proportions differ from the network's by more than this factor are not framed on a guess
MOST_BENT = 2.0
_FRAMED = "pictures of "


class Shaping:
    """Cuts and resizes stored images, or frames them where they have other sizes than the framing gives.

    Attributes:
        at_least: (H, W) that images may be decoded at, or None for all of them.
        asks_sizes: whether it has to know all sizes before the first image.

    """

    def __init__(
        self,
        source: Source,
        index: NDArray[np.int64],
        size: Size | None,
        framing: Framing | None,
        *,
        crop: bool,
    ) -> None:
        """Take what is asked for.

        Args:
            source: what is read.
            index: positions of the samples (n,).
            size: (H, W) to bring all to; it goes before the framing.
            framing: how a network takes pictures, or None.
            crop: cut each image to its region of interest first, and bring it to the size, or the network's.

        Raises:
            DataError: there are no regions of interest.

        """
        if crop and "roi" not in source.extra:
            raise DataError(f"{source.where}: expected an array roi to crop by, got none")
        if crop and size is None and framing is not None:
            size = framing.size
        self.where, self.stated, self.size = source.where, size, size
        self.roi = source.extra["roi"][index] if crop else None
        self.at_least = None if crop else size
        self.framing = None if crop or size is not None else framing
        self.asks_sizes = self.framing is not None and len(index) > 1

    def prepare(self, sizes: set[Size]) -> None:
        """Settle whether images of these sizes (H, W) have to be framed.

        Raises:
            DataError: nothing says how, and most have quite other proportions than the network's pictures.

        """
        if self.framing is None:
            return
        if not needs_framing(sizes, self.framing):
            self.framing = None
        elif self.framing.assumed:
            _refuse_bent(sizes, self.framing.size, self.where)

    def __call__(self, pixels: Array, place: int) -> Array:
        """Return the image (H, W, C) at a place as it is wanted."""
        frame = (pixels.shape[0], pixels.shape[1])
        if self.framing is not None and not self.asks_sizes:
            self.prepare({frame})
        if self.framing is not None:
            return framed(pixels, self.framing)
        boxes = None
        if self.roi is not None:
            if self.size is None:
                self.size = frame  # all are brought to the size of the first
            boxes = crop_boxes(self.roi[place : place + 1], [frame], self.where, first=place)
        if self.size is None:
            return pixels
        shaped: Array = resample([pixels], self.size, boxes)[0]
        return shaped

    def notes(self, sizes: set[Size]) -> list[str]:
        """Return what was done to images of these sizes."""
        if self.framing is not None:
            return [_framing_note(sizes, self.framing)]
        notes = [] if self.roi is None else ["cropped to the region of interest, bilinear"]
        return notes if self.stated is None else [*notes, _resize_note(sizes, self.stated)]


def framing_notes(notes: Sequence[str]) -> list[str]:
    """Return those notes on some data that say how they were framed as a network's preprocessing says."""
    return [note for note in notes if note.startswith(_FRAMED)]


def _refuse_bent(sizes: set[Size], wanted: Size, where: str) -> None:
    """Refuse pictures that a guess would bend, or cut, out of all recognition."""
    bent = median(abs(math.log(height / width * wanted[1] / wanted[0])) for height, width in sizes)
    if bent > math.log(MOST_BENT):
        raise DataError(
            f"{where}: expected images whose proportions are within a factor of {MOST_BENT:g} of "
            f"{wanted[0]} high x {wanted[1]} wide, or a network that says how they are cropped, got "
            f"{_shown(sizes)}; --resize {wanted[0]}x{wanted[1]} brings them to it all the same, "
            "--preprocess FILE states a crop"
        )


def _resize_note(sizes: set[Size], size: Size) -> str:
    return f"resized from {_shown(sizes)} to {size[0]}x{size[1]}, bilinear"


def _framing_note(sizes: set[Size], framing: Framing) -> str:
    """Say in one line what is done to pictures of these sizes, and on whose word."""
    if not framing.assumed:
        return f"{_FRAMED}{_shown(sizes)} are {framing.done}, as the network's preprocessing says"
    (done, *others) = sorted({framing.for_picture(size).done for size in sizes})
    return (
        f"warning: {_FRAMED}{_shown(sizes)} are {done}{' or ' + others[0] if others else ''}, as is usual: "
        "nothing says how this network's own are prepared, so that figures may differ from those on its own; "
        "--resize HxW or --preprocess FILE states another way"
    )


def _shown(sizes: set[Size]) -> str:
    height, width = min(sizes)
    return f"{height}x{width}" if len(sizes) == 1 else f"{len(sizes)} different sizes"
