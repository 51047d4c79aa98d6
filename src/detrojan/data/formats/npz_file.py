"""Images from NumPy's `.npz` files, plain or as JPEG bytes, without ever unpickling anything."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.npz_arrays import Arrays
from detrojan.data.formats.recordings import recorded_source
from detrojan.data.formats.zip_pictures import holds_pictures
from detrojan.data.source import (
    CLASS_NAMES,
    IMAGE_NAMES,
    JPEG_NAMES,
    LABEL_NAMES,
    OFFSET_NAMES,
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
    pictures_in,
)
from detrojan.data.walking import first_bytes
from detrojan.errors import DataError, UnsafeFileError
from detrojan.quarantine import check_room, quarantined
from detrojan.quarantine.limits import stored_size
from detrojan.words import printable

#: where the first name in a zip stands, and how long it is
_NAME, _LENGTH = 30, slice(26, 28)
#: an array of more images than these, or of larger ones in bytes, is drawn from only where all may be read
_MOST_DRAWN_FROM, _LARGEST_DRAWN = 1 << 27, 1 << 28


#: members that an error names, and the endings of archives
_SHOWN, _PACKED = 4, (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


class NpzFile(Format):
    """NumPy's `.npz` files."""

    kind = "an .npz file"
    listed = (
        (".npz", "arrays under common names (images and labels, x_test and y_test, ...), or JPEGs in arrays"),
    )
    precedence = 10

    def recognises(self, place: Place) -> bool:
        """Tell whether a file is a zip, and none of pictures or of PyTorch's."""
        zipped = place.head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
        return zipped and not is_torch_zip(place) and not holds_pictures(place.path)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have images, or recordings; only headers are read."""
        return splits_stored(Arrays(place.path))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the file."""
        return read_npz(place.path, split, unlabelled=unlabelled)


def is_torch_zip(place: Place) -> bool:
    """Tell whether a file is a zip of `torch.save`'s, by the name of what lies in it first."""
    if not place.head.startswith(b"PK\x03\x04"):
        return False
    start = first_bytes(place.path, 1024)
    name = start[_NAME : _NAME + int.from_bytes(start[_LENGTH], "little")]
    return name == b"data.pkl" or name.endswith(b"/data.pkl")


class _Found:
    """What the arrays of a file are, by split."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.groups = by_split(arrays.headers)
        keys = {name: _image_key(arrays, group) for name, group in self.groups.items()}
        self.images = {name: key for name, key in keys.items() if key is not None}
        self.recorded = not self.images and {"audio", "offsets"} <= arrays.headers.keys()
        if not self.images and not self.recorded:
            raise _no_images(arrays)

    def splits(self) -> tuple[str, ...]:
        return ("",) if self.recorded else tuple(self.images)


def read_npz(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into an `.npz` file and return its samples, pixels still to be decoded.

    Images go by a common name (images, x, data, ...), as (N, H, W), (N, H, W, C) or (N, C, H, W), or
    as JPEG: all pictures' bytes in one uint8 array `jpeg`, and N + 1 `offsets` into it. Any name may
    carry a split: x_train, test_images.

    Args:
        path: the file.
        split: "train", "test" or "val"; None takes the only one, or test.
        unlabelled: do not look for labels.

    Raises:
        UnsafeFileError: an array that is needed is pickled.
        DataError: no images, or the file is damaged.

    """
    return read_stored(Arrays(path), split, unlabelled=unlabelled)


def splits_stored(arrays: Arrays) -> tuple[str, ...]:
    """Return the splits that have images, or recordings.

    Raises:
        UnsafeFileError: an array that is needed is pickled.
        DataError: no images.

    """
    return _Found(arrays).splits()


def read_stored(arrays: Arrays, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Return the samples that lie in arrays; as `read_npz`, whose arguments and errors these are."""
    path, found = arrays.path, _Found(arrays)
    common = found.groups.get("", {})
    chosen, notes = choose_split(found.splits(), split, str(path))
    if found.recorded:
        return _recordings(arrays, common, unlabelled=unlabelled)
    group, key = found.groups[chosen], found.images[chosen]
    used = {key}
    if _base(group, key) in JPEG_NAMES:
        offsets = first_key(group, OFFSET_NAMES)
        if offsets is None:
            raise DataError(f"{path}: expected offsets beside {key}, got only {arrays.listed()}")
        used.add(offsets)
        pictures = _JpegBytes(f"{path}: {key}", arrays.read(key), arrays.read(offsets))
        count, fetch, drawn = len(pictures), None, pictures_in(pictures.names(), pictures.content)
        notes.append("JPEG")
    else:
        plain = _Plain(arrays, key)
        count, fetch, drawn = plain.count, plain.fetch, None
    label_key = None if unlabelled else first_key(group, LABEL_NAMES)
    used.update(group[name] for name in LABEL_NAMES if name in group)
    return Source(
        where=str(path),
        count=count,
        fetch=fetch,
        pictures=drawn,
        labels=None if label_key is None else arrays.read(label_key),
        class_names=_class_names(arrays, group, common),
        notes=tuple(notes),
        extra=_extra(arrays, {**common, **group}, used, count),
    )


class _Plain:
    """Images that lie in one array; of a few of them only their rows are kept in memory."""

    def __init__(self, arrays: Arrays, key: str) -> None:
        self.arrays, self.key = arrays, key
        arrays.refuse_pickle(key)
        shape = arrays.headers[key].shape
        channel_axis(shape, f"{arrays.path}: {key}")
        size = arrays.headers[key].dtype.itemsize
        if shape[0] > _MOST_DRAWN_FROM or size * prod(shape[1:]) > _LARGEST_DRAWN:
            check_bytes(shape, size, f"{arrays.path}: array {key}")
        self.count = shape[0]

    def fetch(self, index: NDArray[np.int64]) -> Fetched:
        shape, path = self.arrays.headers[self.key].shape, self.arrays.path
        taken = 4 * len(index) * prod(shape[1:])  # as float32
        check_room(taken, f"{path}: its images", DataError, files=stored_size(path), way_out=SAMPLE)
        where = f"{path}: {self.key}"
        if 2 * len(index) > self.count:
            itemsize = self.arrays.headers[self.key].dtype.itemsize
            check_bytes(shape, itemsize, f"{path}: array {self.key}", way_out=SAMPLE)
            return channels_last(self.arrays.read(self.key), where)[index], []
        return channels_last(self.arrays.rows(self.key, index), where), []


class _JpegBytes:
    """Pictures whose compressed bytes lie one behind the other."""

    def __init__(self, where: str, blob: Array, offsets: Array) -> None:
        if blob.dtype != np.uint8 or blob.ndim != 1:
            raise DataError(f"{where}: expected bytes in one row, got {blob.dtype} of shape {blob.shape}")
        if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or len(offsets) == 0:
            raise DataError(
                f"{where}: expected N + 1 whole offsets, got {offsets.dtype} of shape {offsets.shape}"
            )
        ends = offsets.astype(np.int64)
        wrong = np.flatnonzero((np.diff(ends) <= 0) | (ends[:-1] < 0) | (ends[1:] > len(blob)))
        if len(wrong):
            first = int(wrong[0])
            raise DataError(
                f"{where}: expected image {first} within {len(blob)} bytes, "
                f"got offsets {ends[first]} to {ends[first + 1]}"
            )
        self.where, self.blob, self.ends = where, blob, ends

    def __len__(self) -> int:
        return len(self.ends) - 1

    def names(self) -> list[str]:
        """Return what to call the pictures in errors."""
        return [f"{self.where}: image {position}" for position in range(len(self))]

    def content(self, position: int) -> bytes:
        """Return the compressed bytes of one picture."""
        return self.blob[self.ends[position] : self.ends[position + 1]].tobytes()


def _recordings(arrays: Arrays, group: dict[str, str], *, unlabelled: bool) -> Source:
    """Return spoken recordings, whose samples lie one behind the other in `audio`."""
    key = None if unlabelled else first_key(group, LABEL_NAMES)
    rate = arrays.read("rate") if "rate" in arrays.headers else np.asarray(8000)
    if rate.size != 1 or rate.dtype.kind not in "iu":
        raise DataError(f"{arrays.path}: expected one whole rate, got {rate.dtype} of shape {rate.shape}")
    offsets = arrays.read("offsets")
    extra = _extra(arrays, group, {"audio", "offsets", "rate", key or ""}, len(offsets) - 1)
    if "speaker" in arrays.headers and arrays.headers["speaker"].dtype.kind in "US":
        extra["speaker"] = np.unique(arrays.read("speaker"), return_inverse=True)[1].astype(np.int64)
    return recorded_source(
        str(arrays.path),
        arrays.read("audio"),
        offsets,
        int(rate.reshape(-1)[0]),
        labels=None if key is None else arrays.read(key),
        names=_class_names(arrays, group),
        extra=extra,
    )


def _base(group: dict[str, str], key: str) -> str:
    return next(base for base, name in group.items() if name == key)


def _image_key(arrays: Arrays, group: dict[str, str]) -> str | None:
    """Return the array with the images; one with their name but another shape only where no other is."""
    named = [group[name] for name in IMAGE_NAMES if name in group]
    fitting = [key for key in named if len(arrays.headers[key].shape) in (3, 4)]
    return next(iter((*fitting, *(group[name] for name in JPEG_NAMES if name in group), *named)), None)


def _class_names(arrays: Arrays, *groups: dict[str, str]) -> tuple[str, ...]:
    for group in groups:
        key = first_key(group, CLASS_NAMES)
        if key is not None:
            arrays.refuse_pickle(key)
            header = arrays.headers[key]
            if header.dtype.kind in "US" and len(header.shape) == 1:
                return as_names(arrays.read(key))
    return ()


def _extra(arrays: Arrays, group: dict[str, str], used: set[str], count: int) -> dict[str, Array]:
    return {
        base: arrays.read(key)
        for base, key in group.items()
        if key not in used and is_extra(arrays.headers[key].shape, arrays.headers[key].dtype, count)
    }


def _no_images(arrays: Arrays) -> Exception:
    for name in arrays.headers:
        arrays.refuse_pickle(name)
    if arrays.has_pickle:
        return UnsafeFileError(
            f"{arrays.path}: holds a pickle, which would run code from the file, so it is not read; "
            "expected an .npz file of plain arrays"
        )
    if not arrays.headers and zipfile.is_zipfile(arrays.path) and not is_torch_zip(Place.of(arrays.path)):
        return DataError(f"{arrays.path}: expected arrays or pictures in a zip, got {_members(arrays.path)}")
    names = ", ".join((*IMAGE_NAMES, *JPEG_NAMES))
    return DataError(f"{arrays.path}: expected images under one of {names}, got arrays {arrays.listed()}")


def parse_names(path: Path) -> list[str]:
    """Return the names of the files in a zip, the first thousand of them.

    Raises:
        DataError: a damaged zip.

    """
    try:
        with zipfile.ZipFile(path) as held:
            return [name for name in held.namelist() if not name.endswith("/")][:1000]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: a damaged zip: {error}") from error


def _members(path: Path) -> str:
    """Return the names of what a zip holds, and what helps where it holds another archive."""
    names = quarantined(parse_names, path)
    shown = ", ".join(printable(name, 40) for name in names[:_SHOWN]) or "nothing"
    packed = any(name.lower().endswith(_PACKED) for name in names)
    return (
        shown + (", ..." if len(names) > _SHOWN else "") + ("; unpack what is packed in it" if packed else "")
    )
