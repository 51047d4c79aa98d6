"""Images from HDF5 files, such as the CSAW-HackML contest's `data` and `label`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detrojan.data.formats.base import Format, Place
from detrojan.data.source import (
    CLASS_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    Array,
    Fetched,
    Source,
    as_names,
    by_split,
    channel_axis,
    channels_last,
    check_bytes,
    choose_split,
    first_key,
    is_extra,
)
from detrojan.errors import DataError, UnsafeFileError


class Hdf5File(Format):
    """HDF5 files."""

    kind = "an HDF5 file"
    listed = ((".h5", "HDF5 with data and label, NCHW in 0..255, as in CSAW-HackML-2020"),)
    precedence = 20

    def recognises(self, place: Place) -> bool:
        """Tell whether a file begins as HDF5 does."""
        return place.head.startswith(b"\x89HDF\r\n\x1a\n")

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have images; no array is read."""
        with _opened(place.path) as file:
            return tuple(_images(file, _datasets(file, place.path), place.path))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the file."""
        return read_hdf5(place.path, split, unlabelled=unlabelled)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py  # noqa: PLC0415 - slow to import, and only this reader needs it

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise DataError(f"{path}: the HDF5 file is truncated or damaged: {error}") from error


def read_hdf5(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into an HDF5 file and return its samples, pixels still to be read.

    Images go by a common name (data, images, x, ...), as (N, C, H, W), (N, H, W, C) or (N, H, W).
    The contest's files, `data` (N, 3, H, W) and `label`, hold 0..255 as floats: that is known here.

    Args:
        path: the file.
        split: "train", "test" or "val"; None takes the only one, or test.
        unlabelled: do not look for labels.

    Raises:
        UnsafeFileError: the data lie in another file, to which this one points.
        DataError: no images, or the file is damaged.

    """
    with _opened(path) as file:
        sets = _datasets(file, path)
        groups, images = by_split(sets), _images(file, sets, path)
        chosen, notes = choose_split(images, split, str(path))
        group, key = groups[chosen], images[chosen]
        shape: tuple[int, ...] = sets[key].shape or ()
        where = f"{path}: {key}"
        axis = channel_axis(shape, where)
        label_key = None if unlabelled else first_key(group, LABEL_NAMES)
        used = {key, *(group[name] for name in LABEL_NAMES if name in group)}
        return Source(
            where=str(path),
            count=shape[0],
            fetch=_Rows(path, key, shape, sets[key].dtype).fetch,
            labels=None if label_key is None else _whole(sets[label_key], f"{path}: {label_key}"),
            class_names=_class_names(sets, {**groups.get("", {}), **group}, path),
            notes=tuple(notes),
            extra={
                base: _whole(sets[other], f"{path}: {other}")
                for base, other in {**groups.get("", {}), **group}.items()
                if other not in used and is_extra(sets[other].shape or (), sets[other].dtype, shape[0])
            },
            bytes_in_floats=axis == 1 and key == "data" and "label" in group,
        )


def _images(file: Any, sets: dict[str, Any], path: Path) -> dict[str, str]:
    """Return the name of the array with the images, by split."""
    named = {name: first_key(group, IMAGE_NAMES) for name, group in by_split(sets).items()}
    images = {name: key for name, key in named.items() if key is not None}
    if not images:
        found = ", ".join(sorted(sets or file)[:12]) or "nothing"
        raise DataError(f"{path}: expected images under one of {', '.join(IMAGE_NAMES)}, got {found}")
    return images


class _Rows:
    """The images of one HDF5 dataset; the file is open only while they are read."""

    def __init__(self, path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.key, self.shape, self.dtype = path, key, shape, dtype

    def fetch(self, index: NDArray[np.int64]) -> Fetched:
        where = f"{self.path}: {self.key}"
        if self.dtype.kind not in "biuf":
            raise DataError(f"{where}: expected images of numbers, got {self.dtype}")
        with _opened(self.path) as file:
            stored = file[self.key]
            # many rows are faster read as a whole; a few are read one by one, in file order
            if len(index) * 4 >= self.shape[0]:
                check_bytes(self.shape, self.dtype.itemsize, where)
                rows: Array = stored[()][index]
            else:
                check_bytes((len(index), *self.shape[1:]), self.dtype.itemsize, where)
                rows = np.empty((len(index), *self.shape[1:]), dtype=self.dtype)
                for place in np.argsort(index).tolist():
                    rows[place] = stored[int(index[place])]
        return channels_last(rows, where), []


def _datasets(file: Any, path: Path) -> dict[str, Any]:
    """Return the arrays of the file and of its groups, by name; links to other files are not followed."""
    import h5py  # noqa: PLC0415 - see above

    found: dict[str, Any] = {}
    for prefix, group in [("", file), *_groups(file, path)]:
        for name in group:
            item = _item(group, name, path)
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise UnsafeFileError(f"{path}: {prefix}{name} lies in another file, which is not read")
                found[prefix + name] = item
    return found


def _groups(file: Any, path: Path) -> list[tuple[str, Any]]:
    import h5py  # noqa: PLC0415 - see above

    groups = []
    for name in file:
        item = _item(file, name, path)
        if isinstance(item, h5py.Group):
            groups.append((f"{name}/", item))
    return groups


def _item(group: Any, name: str, path: Path) -> Any:
    """Return a member of a group; None for a link within the file, which may lead on to another file."""
    import h5py  # noqa: PLC0415 - see above

    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise UnsafeFileError(f"{path}: {name} points to the file {link.filename!r}, which is not read")
    return None if isinstance(link, h5py.SoftLink) else group.get(name)


def _whole(stored: Any, what: str) -> Array:
    check_bytes(stored.shape or (), stored.dtype.itemsize, what)
    values: Array = stored[()]
    return values


def _class_names(sets: dict[str, Any], group: dict[str, str], path: Path) -> tuple[str, ...]:
    key = first_key(group, CLASS_NAMES)
    if key is None or sets[key].dtype.kind not in "OSU" or len(sets[key].shape or ()) != 1:
        return ()
    return as_names(_whole(sets[key], f"{path}: {key}"))
