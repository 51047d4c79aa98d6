"""Images from MATLAB's `.mat` files, such as SVHN's: height, width, channels, images, and labels from 1."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.hdf5_file import Sets
from detrojan.data.formats.npz_arrays import Arrays, Header
from detrojan.data.formats.npz_file import read_stored, splits_stored
from detrojan.data.source import IMAGE_NAMES, LABEL_NAMES, Array, Source, by_split, first_key
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

_OLD, _NEW = b"MATLAB 5.0 M", b"MATLAB 7.3 M"
#: what MATLAB calls its types of numbers and texts, and NumPy
_TYPES = {
    "double": "<f8", "single": "<f4", "logical": "|b1", "char": "<U1",
    **{f"{sign}int{bits}": f"<{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
#: the orders of axes that make images the first one
_LAST = {4: (3, 0, 1, 2), 3: (2, 0, 1)}
#: a row of CIFAR's, whose planes are red, green and blue
_ROW, _PLANES = 3072, (3, 32, 32)
_DIGITS = 10


class MatFile(Format):
    """MATLAB's `.mat` files, of version 5 to 7 and of version 7.3."""

    kind = "a .mat file"
    listed = ((".mat", "MATLAB's arrays: X (H, W, C, N) and y, as SVHN's, or data and labels, as CIFAR's"),)
    precedence = 24

    def recognises(self, place: Place) -> bool:
        """Tell whether a file begins as MATLAB's do."""
        return place.head in {_OLD, _NEW}

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have images; no array is read."""
        return splits_stored(Variables(place.path, new=place.head == _NEW))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the file."""
        variables = Variables(place.path, new=place.head == _NEW)
        found = read_stored(variables, split, unlabelled=unlabelled)
        labels, told = _from_zero(found.labels, variables)
        return replace(found, labels=labels, notes=(*found.notes, *variables.notes, *told))


class Variables(Arrays):
    """The variables of a `.mat` file, with the images as the first axis.

    Args:
        path: the file.
        new: whether it is of version 7.3, which is HDF5.

    Raises:
        UnsafeFileError: data that lie in another file.
        DataError: it is damaged.

    """

    def __init__(self, path: Path, *, new: bool) -> None:
        self.path, self.has_pickle = path, False
        self.sets = Sets(path) if new else None
        if self.sets is not None:  # HDF5 holds MATLAB's axes in the opposite order
            stored = {
                name: Header(header.shape[::-1], header.dtype) for name, header in self.sets.headers.items()
            }
        else:
            said = quarantined(parse_variables, path)
            stored = {name: Header(tuple(shape), np.dtype(text)) for name, (shape, text) in said.items()}
        self.stored, self.headers = stored, dict(stored)
        self.notes: list[str] = []
        self.order: dict[str, tuple[int, ...]] = {}
        for group in by_split(stored).values():
            self._understand(group)

    def _understand(self, group: dict[str, str]) -> None:
        """Find out which axis of the images counts them, and turn labels into one row."""
        labels = first_key(group, LABEL_NAMES)
        shape = () if labels is None else self.stored[labels].shape
        count = None
        if labels is not None and max(shape, default=0) == prod(shape):
            count = prod(shape)
            self.headers[labels] = Header((count,), self.stored[labels].dtype)
        for key in [group[name] for name in IMAGE_NAMES if name in group]:
            shape, dtype = self.stored[key].shape, self.stored[key].dtype
            if _counts_last(shape, count):
                self.order[key] = order = _LAST[len(shape)]
                self.headers[key] = Header(tuple(shape[axis] for axis in order), dtype)
                axes = "height, width, channels, images" if len(shape) == 4 else "height, width, images"
                self.notes.append(f"{key} {shape} was read as {axes}")
            elif len(shape) == 2 and shape[1] == _ROW:
                self.headers[key] = Header((shape[0], *_PLANES), dtype)
                self.notes.append(f"{key} {shape} was read as rows of 3 planes of 32x32, as CIFAR's")

    def _rows(self, name: str, rows: Array) -> Array:
        order = self.order.get(name)
        if self.sets is None or order is None:
            return self._whole(name)[rows]
        taken = self.sets.rows(name, rows)  # images first, then MATLAB's other axes in the opposite order
        return taken.transpose(0, *range(taken.ndim - 1, 0, -1))

    def _whole(self, name: str) -> Array:
        if self.headers[name].dtype.kind not in "biufU":
            raise DataError(f"{self.path}: expected numbers in {name}, got a cell, a struct or the like")
        if self.sets is None:
            values: Array = quarantined(parse_variable, self.path, name)
        else:
            values = self.sets.whole(name).T
        order = self.order.get(name)
        return values.reshape(self.headers[name].shape) if order is None else values.transpose(order)


def _counts_last(shape: tuple[int, ...], count: int | None) -> bool:
    """Tell whether the last axis of an array counts its images: there are as many, or it looks so."""
    if len(shape) not in _LAST:
        return False
    if count is not None and (shape[0] == count) != (shape[-1] == count):
        return shape[-1] == count
    if len(shape) == 3:
        return shape[0] == shape[1] != shape[2]
    return shape[2] in (1, 3) and shape[3] not in (1, 3)


def _from_zero(labels: Array | None, variables: Variables) -> tuple[Array | None, list[str]]:
    """Return labels from 0, where MATLAB counted them from 1, and what was assumed."""
    if labels is None or labels.dtype.kind not in "iuf" or not labels.size or labels.min() != 1:
        return labels, []
    digits = {"X", "y"} <= variables.stored.keys() and variables.stored["X"].shape[:3] == (32, 32, 3)
    if digits and labels.max() == _DIGITS:
        return labels % _DIGITS, ["labels of 1 to 10: 10 was read as the digit 0, as in SVHN"]
    told = f"warning: labels of 1 to {int(labels.max())} were lowered by 1, as MATLAB counts from 1"
    return labels - np.ones((), labels.dtype), [told]


def parse_variables(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type of each variable of a file before version 7.3; no array is read.

    Raises:
        DataError: it is damaged.

    """
    from scipy import io  # noqa: PLC0415 - slow, and only this reader needs it

    try:
        found = io.whosmat(path)
    except Exception as error:  # a damaged file can raise anything
        raise DataError(f"{path}: the MATLAB file is truncated or damaged: {error}") from error
    return {name: (tuple(map(int, shape)), _TYPES.get(kind, "V")) for name, shape, kind in found}


def parse_variable(path: Path, name: str) -> Any:
    """Return one variable of a file before version 7.3.

    Raises:
        DataError: it is damaged.

    """
    from scipy import io  # noqa: PLC0415 - as above

    try:
        return np.asarray(io.loadmat(path, variable_names=[name], mat_dtype=False)[name])
    except Exception as error:  # a damaged file can raise anything
        raise DataError(f"{path}: the MATLAB file is truncated or damaged: {error}") from error
