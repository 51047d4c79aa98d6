"""What a reader found in a file, before pixels are decoded, and the names its arrays go by."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from detrojan.data.walking import open_plain
from detrojan.errors import DataError

Array = NDArray[Any]
#: images as they are stored: one array (n, H, W, C), or one (H, W, C) each where sizes may differ
Pixels = Array | list[Array]
#: what is decoded, and what a person should know about how
Fetched = tuple[Pixels, list[str]]

#: no single array may claim more than this many bytes: headers come from strangers
MOST_BYTES = 8 * 2**30
#: the way out where there are too many images for the memory
SAMPLE = "--samples N reads only N of the images"
#: a compressed picture with more bytes than this is not read
MOST_ENCODED = 2**28
#: arrays with more values per sample than this are not carried along as extra
MOST_EXTRA = 64

IMAGE_NAMES = ("images", "image", "x", "data", "imgs", "img", "features", "arr_0")
JPEG_NAMES = ("jpeg", "jpegs", "jpg")
OFFSET_NAMES = ("offsets", "offset")
LABEL_NAMES = ("labels", "label", "y", "targets", "target", "arr_1")
CLASS_NAMES = ("class_names", "names", "classes", "label_names")

_SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
#: further spellings of folders and of files
_SPELLINGS = _SPLITS | {"training": "train", "testing": "test", "validate": "val", "dev": "val"}
_ADDED = re.compile(r"[_ -]?(?:set|data|images|imgs|split)$")
_ANY = "|".join(sorted(_SPLITS, key=len, reverse=True))
_KEY = re.compile(rf"^(?:(?P<before>{_ANY})[_/-])?(?P<base>.+?)(?:[_/-](?P<after>{_ANY}))?$", re.IGNORECASE)


@dataclass(frozen=True)
class Encoded:
    """One compressed picture.

    Attributes:
        name: what to call it in errors and in lists.
        content: its file, or its bytes.
        top: a folder that a link must not lead out of, or None.

    """

    name: str
    content: Path | bytes
    top: Path | None = None

    def open(self) -> IO[bytes]:
        """Open its bytes.

        Raises:
            UnsafeFileError: it is no plain file, or lies outside.
            DataError: it cannot be read.

        """
        return (
            io.BytesIO(self.content)
            if isinstance(self.content, bytes)
            else open_plain(self.content, self.top)
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """The samples of one split, with the pixels still to be decoded: either arrays or compressed pictures.

    Attributes:
        where: the file or folder, for error texts.
        count: number of samples.
        fetch: reads the arrays at the given positions, in that order; None where there are pictures.
        pictures: yields the compressed pictures at the given positions, in any order, each with its place
            among those positions; None where there are arrays.
        labels: (count, ...) as stored and unchecked; None where the file has none.
        class_names: a name per label, or empty.
        named: the labels were numbered after the names, as for class folders: a number alone means nothing.
        notes: what a person should know about how it was read.
        extra: numeric per-sample arrays, first dimension `count`.
        bytes_in_floats: floats above 1 are known to mean 0..255 here.
        files: the file of each sample, where each has its own; else empty.
        used: further files that were read, such as tables and batches; empty where it is the file itself.
        skipped: what was left out, each with the reason.
        sha256: digest of the samples where they lie in no file; else empty.

    """

    where: str
    count: int
    fetch: Callable[[NDArray[np.int64]], Fetched] | None = None
    pictures: Callable[[NDArray[np.int64]], Iterator[tuple[int, Encoded]]] | None = None
    labels: Array | None = None
    class_names: tuple[str, ...] = ()
    named: bool = False
    notes: tuple[str, ...] = ()
    extra: dict[str, Array] = field(default_factory=dict)
    bytes_in_floats: bool = False
    files: tuple[str, ...] = ()
    used: tuple[Path, ...] = ()
    skipped: tuple[str, ...] = ()
    sha256: str = ""


def pictures_in(
    names: Sequence[str], content: Callable[[int], Path | bytes], top: Path | None = None
) -> Callable[[NDArray[np.int64]], Iterator[tuple[int, Encoded]]]:
    """Return what a `Source` calls `pictures`, for pictures that are got one by one, by their position."""

    def pictures(index: NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        for place, position in enumerate(index.tolist()):
            yield place, Encoded(names[position], content(position), top)

    return pictures


def split_name(text: str) -> str:
    """Return "train", "test" or "val" for any common spelling of it, e.g. Training, test_set, valid.

    Raises:
        DataError: another word.

    """
    word = text.strip().lower()
    name = _SPELLINGS.get(word) or _SPELLINGS.get(_ADDED.sub("", word))
    if name is None:
        raise DataError(f"expected a split train, test or val, got {text!r:.80}")
    return name


def by_split(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Sort array names such as x_train, test/images, y into {split: {base name: key}}; "" is no split."""
    groups: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _KEY.match(key)
        if match is None:
            continue
        split = _SPLITS.get((match["before"] or match["after"] or "").lower(), "")
        groups.setdefault(split, {})[match["base"].lower()] = key
    return groups


def first_key(group: Mapping[str, str], names: Iterable[str]) -> str | None:
    """Return the key of the first of these names that a group of `by_split` has, or None."""
    return next((group[name] for name in names if name in group), None)


def as_names(values: Array) -> tuple[str, ...]:
    """Return an array (K,) of text or bytes as names."""
    return tuple(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in values.tolist()
    )


def choose_split(found: Iterable[str], wanted: str | None, where: str) -> tuple[str, list[str]]:
    """Return which of the splits found is read, and a note where that was a choice.

    Raises:
        DataError: the one asked for is not there.

    """
    splits = sorted(found)
    if wanted is not None:
        name = split_name(wanted)
        if name not in splits:
            known = ", ".join(split or "images without a split" for split in splits)
            raise DataError(f"{where}: expected a split {name}, got only {known}")
        return name, [f"split {name}"]
    name = next(split for split in ("", "test", "val", "train") if split in splits)
    if len(splits) == 1:
        return name, [f"split {name}, the only one"] if name else []
    others = ", ".join(split for split in splits if split and split != name)
    return name, [f"split {name or 'without a name'} was taken; the file also has {others}"]


def channel_axis(shape: Sequence[int], where: str) -> int | None:
    """Return where the channels stand in an array of images: 1, 3, or None for (N, H, W) grey images.

    Raises:
        DataError: no dimension of 1 or 3 channels, or two that both could be it.

    """
    shown = tuple(shape)
    if len(shown) == 3:
        if shown[2] in (1, 3):
            raise DataError(f"{where}: expected images (N, H, W) or (N, H, W, C), got one of shape {shown}")
        return None
    if len(shown) != 4:
        raise DataError(
            f"{where}: expected images (N, H, W), (N, H, W, C) or (N, C, H, W), got shape {shown}"
        )
    axes = [axis for axis in (1, 3) if shown[axis] in (1, 3)]
    if not axes:
        raise DataError(f"{where}: expected 1 or 3 channels, got shape {shown}")
    if len(axes) == 2:
        raise DataError(f"{where}: expected 1 or 3 channels second or last, got both in shape {shown}")
    return axes[0]


def channels_last(images: Array, where: str) -> Array:
    """Return the images as (N, H, W, C), without copying."""
    axis = channel_axis(images.shape, where)
    if axis is None:
        return images[..., None]
    return images.transpose(0, 2, 3, 1) if axis == 1 else images


def check_bytes(shape: Sequence[int], itemsize: int, what: str, *, way_out: str = "") -> int:
    """Return the size of an array in bytes.

    Args:
        shape: of the array.
        itemsize: bytes of each value.
        what: the file, and what in it takes so much.
        way_out: what a person can do about it.

    Raises:
        DataError: it claims more than 8 GiB.

    """
    size = itemsize
    for length in shape:
        size *= int(length)
    if size > MOST_BYTES:
        raise DataError(
            f"{what}: expected at most 8 GiB, got an array that claims {size / 2**30:.4g} GiB"
            + (f"; {way_out}" if way_out else "")
        )
    return size


def is_extra(shape: Sequence[int], dtype: np.dtype[Any], count: int) -> bool:
    """Tell whether an array is a few numbers per sample, which travel with the samples."""
    return (
        dtype.kind in "biuf"
        and len(shape) >= 1
        and shape[0] == count
        and int(np.prod(shape[1:], dtype=np.float64)) <= MOST_EXTRA
    )
