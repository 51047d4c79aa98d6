"""From stored pixel values to [0, 1], without silent guesses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detrojan.data.source import Array, Pixels
from detrojan.errors import DataError, OptionError, RangeError

Range = tuple[float, float]
#: how far rounding may carry a value past the end of its range, in parts of the range
_ROUNDING = 1e-6
_RANGE = re.compile(
    r"^\s*([+-]?[\d.]+(?:e[+-]?\d+)?)\s*(?:-|\.\.|,|:)\s*([+-]?[\d.]+(?:e[+-]?\d+)?)\s*$", re.IGNORECASE
)


def parse_range(text: str) -> Range:
    """Read a range as people write it: 0-255, 0..1, -1,1.

    Raises:
        OptionError: anything else, or low >= high.

    """
    match = _RANGE.match(text)
    try:
        low, high = (float(part) for part in match.groups()) if match else (0.0, 0.0)
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise OptionError(f"expected a range such as 0-255, low before high, got {text!r}")
    return low, high


@dataclass(frozen=True)
class Scale:
    """How stored values become [0, 1]: (value - low) / (high - low).

    Attributes:
        low: the stored value of black.
        high: the stored value of white.
        notes: what a person should know about the choice.

    """

    low: float
    high: float
    notes: tuple[str, ...]

    def apply(self, images: Array) -> NDArray[np.float32]:
        """Return the images in [0, 1]; what rounding carried past the ends is clipped."""
        unit = images.astype(np.float32)
        if self.low != 0:
            unit -= np.float32(self.low)
        if self.high - self.low != 1:
            unit /= np.float32(self.high - self.low)
        return np.clip(unit, 0, 1, out=unit)


@dataclass(frozen=True)
class Extent:
    """Of what type stored values are, and between which ends they lie."""

    dtype: np.dtype[np.generic]
    low: float
    high: float

    @classmethod
    def of(cls, pixels: Pixels, where: str) -> Extent:
        """Look through images.

        Raises:
            DataError: the pixels are not numbers, or there are none.

        """
        arrays = pixels if isinstance(pixels, list) else [pixels]
        dtype = arrays[0].dtype
        if dtype.kind not in "biuf":
            raise DataError(f"{where}: expected images of numbers, got {dtype}")
        if any(array.size == 0 for array in arrays):
            raise DataError(f"{where}: expected images with pixels, got shape {arrays[0].shape}")
        low = min(float(array.min()) for array in arrays)
        return cls(dtype, low, max(float(array.max()) for array in arrays))

    def joined(self, other: Extent | None) -> Extent:
        """Return what covers both."""
        if other is None:
            return self
        return Extent(self.dtype, min(self.low, other.low), max(self.high, other.high))


def choose_scale(
    pixels: Pixels | Extent, stated: Range | None, where: str, *, bytes_in_floats: bool = False
) -> Scale:
    """Decide what the stored values mean.

    uint8 means 0..255. Floats must lie within [0, 1], and other integers within 0..255, unless a
    range is stated.

    Args:
        pixels: images as stored, or between which ends their values lie.
        stated: (low, high) that the owner of the data vouches for, or None.
        where: the file, for error texts.
        bytes_in_floats: floats above 1 are known to mean 0..255.

    Raises:
        DataError: the pixels are not numbers.
        RangeError: the values contradict the stated or the expected range, or are not finite.
        OptionError: the stated range is empty.

    """
    extent = pixels if isinstance(pixels, Extent) else Extent.of(pixels, where)
    dtype, low, high = extent.dtype, extent.low, extent.high
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RangeError(f"{where}: expected finite pixel values, got NaN or infinity")
    if stated is not None:
        return _stated_scale(stated, low, high, where)
    if dtype.kind != "f":
        return _whole_scale(dtype, low, high, where)
    if bytes_in_floats and low >= 0 and 1 < high <= 255:
        return Scale(0, 255, (f"{dtype} in 0..255, as the contest's files hold it, divided by 255",))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise RangeError(f"{where}: expected images in [0, 1], got {_shown(low, high)}; {_advice(low, high)}")
    return Scale(0, 1, (f"{dtype} in [0, 1]",))


def _whole_scale(dtype: np.dtype[np.generic], low: float, high: float, where: str) -> Scale:
    if dtype.kind == "b":
        return Scale(0, 1, ("black and white, 0 or 1",))
    if dtype == np.uint8:
        doubt = "warning: uint8 values of at most 1 were read as nearly black; if 1 is white, state 0-1"
        return Scale(0, 255, ("uint8 / 255", doubt) if high == 1 else ("uint8 / 255",))
    if low >= 0 and 1 < high <= 255:
        return Scale(0, 255, (f"{dtype} taken for 0..255 and divided by 255",))
    raise RangeError(
        f"{where}: expected uint8 or whole numbers in 0..255, got {dtype} from {low:g} to {high:g}; "
        "state the range with --data-range LOW-HIGH"
    )


def _stated_scale(stated: Range, low: float, high: float, where: str) -> Scale:
    first, last = stated
    if not (first < last and math.isfinite(last - first)):
        raise OptionError(f"expected a range low before high, got {first:g} to {last:g}")
    slack = _ROUNDING * (last - first)
    if low < first - slack or high > last + slack:
        raise RangeError(
            f"{where}: expected images in [{first:g}, {last:g}] as stated, got {_shown(low, high)}"
        )
    notes = [f"stated range {first:g}..{last:g} mapped to [0, 1]"]
    if high <= first + (last - first) / 200:
        notes.append(
            f"warning: values reach only {high:g} of the stated {first:g}..{last:g}: nearly black images"
        )
    return Scale(first, last, tuple(notes))


def _shown(low: float, high: float) -> str:
    return f"max {high:g}" if low >= 0 else f"min {low:g}, max {high:g}"


def _advice(low: float, high: float) -> str:
    if low >= 0 and high <= 255:
        return "state the range with --data-range 0-255"
    if low >= -1 and high <= 1:
        return "state the range with --data-range=-1..1"
    return "state the range with --data-range LOW-HIGH"
