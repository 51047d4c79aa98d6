"""Images from NumPy's `.npz` files, plain or as JPEG bytes, without ever unpickling anything."""

from __future__ import annotations

import io
import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from detrojan.data.decoding import decode, even_channels, transparency_note
from detrojan.data.formats.recordings import recorded_source
from detrojan.data.source import (
    CLASS_NAMES,
    IMAGE_NAMES,
    JPEG_NAMES,
    LABEL_NAMES,
    OFFSET_NAMES,
    Array,
    Fetched,
    Source,
    by_split,
    channel_axis,
    channels_last,
    check_bytes,
    choose_split,
    is_extra,
)
from detrojan.errors import DataError, UnsafeFileError

#: what reading a damaged file may raise
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    RuntimeError,  # also NotImplementedError: encrypted, or a compression that zipfile does not know
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise DataError(f"{what}: the file is truncated or damaged: {error}") from error


class _Arrays:
    """The arrays of one file: all headers are read at once, contents only when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.headers: dict[str, _Header] = {}
        with _explained(str(path)), zipfile.ZipFile(path) as file:
            names = file.namelist()
            self.has_pickle = any(name.endswith((".pkl", ".pickle")) for name in names)
            for name in names:
                if name.endswith(".npy"):
                    self.headers[name.removesuffix(".npy")] = self._header(file, name)

    @staticmethod
    def _header(file: zipfile.ZipFile, name: str) -> _Header:
        with file.open(name) as stream:
            version = npy.read_magic(stream)
            if version == (1, 0):
                shape, _, dtype = npy.read_array_header_1_0(stream)
            elif version == (2, 0):
                shape, _, dtype = npy.read_array_header_2_0(stream)
            else:
                raise ValueError(f"array {name} has version {version} of the format")
        return _Header(shape, dtype)

    def refuse_pickle(self, name: str) -> None:
        if self.headers[name].dtype.hasobject:
            raise UnsafeFileError(
                f"{self.path}: array {name} holds Python objects; a pickle inside would run code from the "
                "file, so it is not read. Save it as numbers or text."
            )

    def read(self, name: str) -> Array:
        """Return one array.

        Raises:
            UnsafeFileError: it is pickled.
            DataError: it is too large, or damaged.

        """
        self.refuse_pickle(name)
        header = self.headers[name]
        check_bytes(header.shape, header.dtype.itemsize, f"{self.path}: array {name}")
        with (
            _explained(f"{self.path}: array {name}"),
            zipfile.ZipFile(self.path) as file,
            file.open(f"{name}.npy") as stream,
        ):
            values: Array = npy.read_array(stream, allow_pickle=False)
        return values


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
    arrays = _Arrays(path)
    groups = by_split(arrays.headers)
    images = {name: key for name, group in groups.items() if (key := _image_key(arrays, group)) is not None}
    if not images and "audio" in arrays.headers and "offsets" in arrays.headers:
        return _recordings(arrays, groups.get("", {}), unlabelled=unlabelled)
    if not images:
        raise _no_images(arrays)
    chosen, notes = choose_split(images, split, str(path))
    group, key = groups[chosen], images[chosen]
    used = {key}
    if _base(group, key) in JPEG_NAMES:
        offsets = _first(group, OFFSET_NAMES)
        if offsets is None:
            raise DataError(f"{path}: expected offsets beside {key}, got only {_listed(arrays)}")
        used.add(offsets)
        pictures = _JpegBytes(f"{path}: {key}", arrays.read(key), arrays.read(offsets))
        count, fetch = len(pictures), pictures.fetch
        notes.append("JPEG")
    else:
        plain = _Plain(arrays, key)
        count, fetch = plain.count, plain.fetch
    label_key = None if unlabelled else _first(group, LABEL_NAMES)
    used.update(group[name] for name in LABEL_NAMES if name in group)
    return Source(
        where=str(path),
        count=count,
        fetch=fetch,
        labels=None if label_key is None else arrays.read(label_key),
        class_names=_class_names(arrays, group, groups.get("", {})),
        notes=tuple(notes),
        extra=_extra(arrays, {**groups.get("", {}), **group}, used, count),
    )


def read_arrays(path: Path, names: Sequence[str]) -> list[Array]:
    """Return named arrays of an `.npz` file, whatever they mean.

    Args:
        path: the file.
        names: of the arrays.

    Raises:
        UnsafeFileError: one is pickled.
        DataError: the file is damaged, or one is not in it.

    """
    arrays = _Arrays(path)
    missing = [name for name in names if name not in arrays.headers]
    if missing:
        raise DataError(f"{path}: expected an array {missing[0]}, got {', '.join(arrays.headers) or 'none'}")
    return [arrays.read(name) for name in names]


class _Plain:
    """Images that lie in one array, which is read when the first of them is asked for."""

    def __init__(self, arrays: _Arrays, key: str) -> None:
        self.arrays, self.key = arrays, key
        arrays.refuse_pickle(key)
        shape = arrays.headers[key].shape
        channel_axis(shape, f"{arrays.path}: {key}")
        check_bytes(shape, arrays.headers[key].dtype.itemsize, f"{arrays.path}: array {key}")
        self.count = shape[0]

    def fetch(self, index: NDArray[np.int64]) -> Fetched:
        images = channels_last(self.arrays.read(self.key), f"{self.arrays.path}: {self.key}")
        return images[index], []


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

    def fetch(self, index: NDArray[np.int64]) -> Fetched:
        images, dropped = [], 0
        for position in index.tolist():
            piece = self.blob[self.ends[position] : self.ends[position + 1]].tobytes()
            pixels, transparent = decode(io.BytesIO(piece), f"{self.where}: image {position}")
            images.append(pixels)
            dropped += transparent
        images, notes = even_channels(images)
        return images, notes + transparency_note(dropped)


def _recordings(arrays: _Arrays, group: dict[str, str], *, unlabelled: bool) -> Source:
    """Return spoken recordings, whose samples lie one behind the other in `audio`."""
    key = None if unlabelled else _first(group, LABEL_NAMES)
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


def _first(group: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((group[name] for name in names if name in group), None)


def _base(group: dict[str, str], key: str) -> str:
    return next(base for base, name in group.items() if name == key)


def _image_key(arrays: _Arrays, group: dict[str, str]) -> str | None:
    """Return the array with the images; one with their name but another shape only where no other is."""
    named = [group[name] for name in IMAGE_NAMES if name in group]
    fitting = [key for key in named if len(arrays.headers[key].shape) in (3, 4)]
    return next(iter((*fitting, *(group[name] for name in JPEG_NAMES if name in group), *named)), None)


def _class_names(arrays: _Arrays, *groups: dict[str, str]) -> tuple[str, ...]:
    for group in groups:
        key = _first(group, CLASS_NAMES)
        if key is not None:
            arrays.refuse_pickle(key)
            header = arrays.headers[key]
            if header.dtype.kind in "US" and len(header.shape) == 1:
                return tuple(
                    name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                    for name in arrays.read(key).tolist()
                )
    return ()


def _extra(arrays: _Arrays, group: dict[str, str], used: set[str], count: int) -> dict[str, Array]:
    return {
        base: arrays.read(key)
        for base, key in group.items()
        if key not in used and is_extra(arrays.headers[key].shape, arrays.headers[key].dtype, count)
    }


def _listed(arrays: _Arrays) -> str:
    shown = [f"{name} {header.shape}" for name, header in list(arrays.headers.items())[:12]]
    return ", ".join(shown) or "none"


def _no_images(arrays: _Arrays) -> Exception:
    for name in arrays.headers:
        arrays.refuse_pickle(name)
    if arrays.has_pickle:
        return UnsafeFileError(
            f"{arrays.path}: holds a pickle, which would run code from the file, so it is not read; "
            "expected an .npz file of plain arrays"
        )
    names = ", ".join((*IMAGE_NAMES, *JPEG_NAMES))
    return DataError(f"{arrays.path}: expected images under one of {names}, got arrays {_listed(arrays)}")
