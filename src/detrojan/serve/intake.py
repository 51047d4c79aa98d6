"""What the input of a guarded model takes, and how images in [0, 1] are made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detrojan.models.preprocessing import Preprocessing
from detrojan.models.v2 import Feed
from detrojan.serve.refusals import malformed, refused
from detrojan.words import printable

#: the one input of a model that the service computes itself
INPUT = "images"
#: what its images may be sent as; whole numbers are 0 to 255, others 0 to 1
DATATYPES: dict[str, np.dtype[Any]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "UINT8": np.dtype("u1"),
}
#: what rounding to FP16 may add to black or white
_ROUNDED = 2e-3


@dataclass(frozen=True, kw_only=True)
class Intake:
    """The one input that a request has to fill.

    Attributes:
        name: of the input.
        shape: its sides; -1 for the number of images.
        datatypes: what it may be sent as.
        most: images in a request.
        read: returns images (N, C, H, W) in [0, 1] for what came, or raises a `RefusedError`.

    """

    name: str
    shape: tuple[int, ...]
    datatypes: Mapping[str, np.dtype[Any]]
    most: int
    read: Callable[[NDArray[Any]], torch.Tensor]

    @property
    def usual_datatype(self) -> str:
        """What the metadata state."""
        return "FP32" if "FP32" in self.datatypes else next(iter(self.datatypes))

    def check(self, shape: Sequence[int], datatype: str) -> None:
        """Refuse another shape or type.

        Raises:
            RefusedError: so.

        """
        sides = zip(shape, self.shape, strict=False)
        if len(shape) != len(self.shape) or any(a < 1 or b not in {-1, a} for a, b in sides):
            wanted = ", ".join("N" if side == -1 else str(side) for side in self.shape)
            more = " with N of 1 or more" if -1 in self.shape else ""
            raise malformed(f"expected {self.name} of shape [{wanted}]{more}, got {list(shape)}")
        if self.shape[0] == -1 and shape[0] > self.most:
            raise refused(
                "too large", f"expected at most {self.most:,} images in a request, got {shape[0]:,}"
            )
        if datatype not in self.datatypes:
            known = ", ".join(self.datatypes)
            raise malformed(f"expected {self.name} of datatype {known}, got {printable(datatype, 20)!r}")


def own_intake(shape: tuple[int, int, int], most: int) -> Intake:
    """Return what is taken for a model (C, H, W) that the service computes itself."""
    return Intake(
        name=INPUT,
        shape=(-1, *shape),
        datatypes=DATATYPES,
        most=most,
        read=lambda values: pixels(values, INPUT),
    )


def upstream_intake(feed: Feed, preprocessing: Preprocessing, most: int) -> Intake:
    """Return what is taken for another server's model: the same as that server takes.

    Args:
        feed: how images reach that model.
        preprocessing: what was done to images in [0, 1] before.
        most: images in a request.

    """
    channels, height, width = feed.shape
    sides = (channels, height, width) if feed.layout == "NCHW" else (height, width, channels)
    first = () if not feed.batched else ((feed.exact or -1),)

    def read(values: NDArray[Any]) -> torch.Tensor:
        seen = torch.from_numpy(values.astype(np.float32))
        images = preprocessing.undone(seen if feed.batched else seen[None])
        low, high = map(float, images.aminmax())
        if not (low >= -_ROUNDED and high <= 1 + _ROUNDED):
            raise malformed(
                f"expected {feed.tensor.name} as images from black to white become it "
                f"({preprocessing}), got values beyond these"
            )
        return images.clamp(0, 1).contiguous()

    return Intake(
        name=feed.tensor.name,
        shape=(*first, *sides),
        datatypes={feed.tensor.datatype: feed.dtype},
        most=min(most, feed.most) if feed.most else most,
        read=read,
    )


def pixels(values: NDArray[Any], what: str) -> torch.Tensor:
    """Return pixels in [0, 1] as float32 of the same shape.

    Args:
        values: uint8 of 0 to 255, or numbers in [0, 1].
        what: how to call them in an error.

    Raises:
        RefusedError: values outside of this range, or not finite.

    """
    if values.dtype == np.uint8:
        return torch.from_numpy(values.astype(np.float32) / 255)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise malformed(f"expected {what} in [0, 1], got values from {low:.4g} to {high:.4g}")
    return torch.from_numpy(values.astype(np.float32))
