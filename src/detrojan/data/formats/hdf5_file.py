"""Images from HDF5 files, such as the CSAW-HackML contest's `data` and `label`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detrojan.data import source
from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.npz_arrays import Header, plain_dtype
from detrojan.data.source import (
    CLASS_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    SAMPLE,
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
from detrojan.quarantine import quarantined

#: a file of images has fewer arrays
_MOST_SETS = 1000


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
        return tuple(_images(Sets(place.path)))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the file."""
        return read_hdf5(place.path, split, unlabelled=unlabelled)


class Sets:
    """The arrays of an HDF5 file: what they are is read at once, contents only when asked for.

    Args:
        path: the file.

    Raises:
        UnsafeFileError: data that lie in another file.
        DataError: the file is damaged.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = quarantined(parse_sets, path)
        self.names: list[str] = found["names"]
        self.headers: dict[str, Header] = {
            name: Header(tuple(shape), plain_dtype(text)) for name, (shape, text) in found["sets"].items()
        }

    def whole(self, name: str) -> Array:
        """Return one array; texts are decoded."""
        header = self.headers[name]
        check_bytes(header.shape, header.dtype.itemsize, f"{self.path}: {name}")
        values: Array = quarantined(parse_set, self.path, name, None)
        return values

    def rows(self, name: str, index: NDArray[np.int64]) -> Array:
        """Return some rows of an array, in the order of the index."""
        header, where = self.headers[name], f"{self.path}: {name}"
        # many rows are faster read as a whole; a few are read one by one, in file order
        taken = check_bytes((len(index), *header.shape[1:]), header.dtype.itemsize, where, way_out=SAMPLE)
        if len(index) * 4 >= header.shape[0] and taken * header.shape[0] <= source.MOST_BYTES * len(index):
            return self.whole(name)[index]
        values: Array = quarantined(parse_set, self.path, name, index.tolist())
        return values


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py  # noqa: PLC0415 - slow to import, and only this reader needs it

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: the HDF5 file is truncated or damaged: {error}") from error


def parse_sets(path: Path) -> dict[str, Any]:
    """Return shape and type of the arrays of a file and of its groups, by name, and the names at its top.

    Raises:
        UnsafeFileError: data that lie in another file.
        DataError: the file is damaged, has too many arrays, or one behind a filter that is not known.

    """
    with _opened(path) as file:
        found = {name: (item.shape or (), _type(item)) for name, item in _datasets(file, path).items()}
        return {"sets": found, "names": sorted(file)[:12]}


def parse_set(path: Path, name: str, rows: list[int] | None) -> Array:
    """Return one array, or some of its rows in their order; texts are decoded.

    Raises:
        UnsafeFileError: data that lie in another file.
        DataError: the file is damaged.

    """
    with _opened(path) as file:
        stored = _datasets(file, path)[name]
        _check_filters(stored, f"{path}: {name}")
        if rows is None:
            values = np.asarray(stored[()])
            return np.array([_decoded(one) for one in values.ravel()]) if values.dtype.hasobject else values
        taken = np.empty((len(rows), *stored.shape[1:]), dtype=stored.dtype)
        for place in np.argsort(rows).tolist():
            taken[place] = stored[rows[place]]
        return taken


def _decoded(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _type(stored: Any) -> str:
    return "|O" if stored.dtype.hasobject else str(stored.dtype.str)


def _check_filters(stored: Any, where: str) -> None:
    """Refuse data behind a filter that is not there: they would be read as something else, or not at all."""
    import h5py  # noqa: PLC0415 - see above

    plan = stored.id.get_create_plist()
    for number in range(plan.get_nfilters()):
        code, *_ = plan.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise DataError(f"{where}: expected data packed by a filter that is installed, got filter {code}")


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
    sets = Sets(path)
    groups, images = by_split(sets.headers), _images(sets)
    chosen, notes = choose_split(images, split, str(path))
    group, key = groups[chosen], images[chosen]
    shape = sets.headers[key].shape
    axis = channel_axis(shape, f"{path}: {key}")
    label_key = None if unlabelled else first_key(group, LABEL_NAMES)
    used = {key, *(group[name] for name in LABEL_NAMES if name in group)}
    named = {**groups.get("", {}), **group}
    return Source(
        where=str(path),
        count=shape[0],
        fetch=_Rows(sets, key).fetch,
        labels=None if label_key is None else sets.whole(label_key),
        class_names=_class_names(sets, named),
        notes=tuple(notes),
        extra={
            base: sets.whole(other)
            for base, other in named.items()
            if other not in used and is_extra(sets.headers[other].shape, sets.headers[other].dtype, shape[0])
        },
        bytes_in_floats=axis == 1 and key == "data" and "label" in group,
    )


def _images(sets: Sets) -> dict[str, str]:
    """Return the name of the array with the images, by split."""
    named = {name: first_key(group, IMAGE_NAMES) for name, group in by_split(sets.headers).items()}
    images = {name: key for name, key in named.items() if key is not None}
    if not images:
        found = ", ".join(sorted(sets.headers)[:12] or sets.names) or "nothing"
        raise DataError(f"{sets.path}: expected images under one of {', '.join(IMAGE_NAMES)}, got {found}")
    return images


class _Rows:
    """The images of one HDF5 dataset; the file is open only while they are read."""

    def __init__(self, sets: Sets, key: str) -> None:
        self.sets, self.key = sets, key

    def fetch(self, index: NDArray[np.int64]) -> Fetched:
        where, dtype = f"{self.sets.path}: {self.key}", self.sets.headers[self.key].dtype
        if dtype.kind not in "biuf":
            raise DataError(f"{where}: expected images of numbers, got {dtype}")
        return channels_last(self.sets.rows(self.key, index), where), []


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
                if len(found) > _MOST_SETS:
                    raise DataError(f"{path}: expected at most {_MOST_SETS:,} arrays, got more")
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


def _class_names(sets: Sets, group: dict[str, str]) -> tuple[str, ...]:
    key = first_key(group, CLASS_NAMES)
    if key is None or sets.headers[key].dtype.kind not in "OSU" or len(sets.headers[key].shape) != 1:
        return ()
    return as_names(sets.whole(key))
