"""Images and labels in pickles of NumPy's arrays, such as a batch of CIFAR's, read without unpickling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.batch_pickle import MOST_BYTES, read_pickled
from detrojan.data.formats.cifar_files import KINDS, PIXELS, class_names
from detrojan.data.formats.npz_arrays import Arrays, Header
from detrojan.data.formats.npz_file import read_stored, splits_stored
from detrojan.data.packed import DAMAGE, Unpacked
from detrojan.data.source import Array, Source
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

#: values of a row, and the image that it is: CIFAR's planes, and MNIST's rows
_ROWS = {PIXELS: (3, 32, 32), 784: (28, 28)}
_SPLITS = ("train", "val", "test")


class PickledArrays(Format):
    """Pickles of NumPy's arrays."""

    kind = "a pickle of arrays"
    listed = (
        (".pkl", "a dict of NumPy's arrays (images or features, labels), or CIFAR's batch; not unpickled"),
    )
    precedence = 31

    def recognises(self, place: Place) -> bool:
        """Tell whether a file begins as pickles do, packed or not."""
        if place.head[:1] == b"\x80":
            return True
        if not place.head.startswith(b"\x1f\x8b"):
            return False
        try:
            with Unpacked(place.path) as stream:
                return stream.read(2) in {b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}
        except DAMAGE:
            return False

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have images."""
        return splits_stored(Pickled(place.path))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the file."""
        arrays = Pickled(place.path)
        found = read_stored(arrays, split, unlabelled=unlabelled)
        beside = [class_names(kind, place.path.parent / kind.names) for kind in KINDS if not kind.binary]
        names = found.class_names or next((held for held in beside if held and arrays.rows_of_planes), ())
        return replace(found, class_names=names, notes=(*found.notes, *arrays.notes))


class Pickled(Arrays):
    """The arrays of a pickle, and its lists of numbers or texts.

    Args:
        path: the file.

    Raises:
        UnsafeFileError: it holds more than those.
        DataError: it is damaged.

    """

    def __init__(self, path: Path) -> None:
        self.path, self.has_pickle = path, False
        self.notes: list[str] = []
        self.held: dict[str, Array] = {}
        for name, values in quarantined(parse_pickled, path).items():
            self.held[name] = self._as_images(name, values)
        self.rows_of_planes = any(values.shape[1:] == _ROWS[PIXELS] for values in self.held.values())
        self.headers = {name: Header(values.shape, values.dtype) for name, values in self.held.items()}

    def _as_images(self, name: str, values: Array) -> Array:
        shape = _ROWS.get(values.shape[1]) if values.ndim == 2 else None
        if shape is None:
            return values
        self.notes.append(f"{name} {values.shape} was read as rows of {' x '.join(map(str, shape))}")
        return values.reshape(-1, *shape)

    def _rows(self, name: str, rows: Array) -> Array:
        return self.held[name][rows]

    def _whole(self, name: str) -> Array:
        return self.held[name]


def parse_pickled(path: Path) -> dict[str, Array]:
    """Return the arrays and lists of a pickle, by name.

    A dict gives their names. Of a pair the first are the images; of several pairs, the splits follow each
    other as train, (val,) test.

    Raises:
        UnsafeFileError: it holds more than arrays, lists and dicts.
        DataError: it is damaged, or something else.

    """
    try:
        with Unpacked(path) as stream:
            content = stream.read(MOST_BYTES + 1)
    except DAMAGE as error:
        raise DataError(f"{path}: the file is truncated or damaged: {error}") from error
    named = _named(read_pickled(content, str(path)))
    if named is None:
        raise DataError(
            f"{path}: expected a dict of arrays, or pairs of images and labels; numpy.savez writes such"
        )
    arrays = {name: _array(value) for name, value in named.items()}
    return {name: value for name, value in arrays.items() if value is not None}


def _named(found: Any) -> dict[str, Any] | None:
    """Return what a pickle holds by name; None where nothing says what is what."""
    if isinstance(found, dict):
        fine = {"labels": found["fine_labels"]} if "fine_labels" in found else {}
        return fine | found
    if isinstance(found, np.ndarray):
        return {"images": found}
    if not isinstance(found, tuple | list):
        return None
    if len(found) == 2 and isinstance(found[0], np.ndarray) and _array(found[1]) is not None:
        return {"images": found[0], "labels": found[1]}
    pairs = all(isinstance(one, tuple | list) and len(one) == 2 for one in found)
    if not pairs or len(found) not in {2, 3}:
        return None
    splits = _SPLITS if len(found) == 3 else ("train", "test")
    named = [(f"{split}/{name}", value) for split, pair in zip(splits, found, strict=True)
             for name, value in zip(("images", "labels"), pair, strict=True)]  # fmt: skip
    return dict(named)


def _array(value: Any) -> Array | None:
    """Return an array, or a list of numbers or texts as one; None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list) or not value:
        return None
    return np.asarray(value) if {type(one) for one in value} in ({int}, {str}) else None
