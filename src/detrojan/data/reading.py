"""Reads data of any supported kind: a file's content says its kind, not its name."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detrojan.data.dataset import Dataset
from detrojan.data.digest import digest_of
from detrojan.data.formats.base import Format, Place, formats, kinds, words
from detrojan.data.formats.image_folder import read_pictures
from detrojan.data.geometry import Size
from detrojan.data.labels import clean_labels, is_text
from detrojan.data.pictures import Drawn, draw_arrays, draw_pictures
from detrojan.data.pixels import Range
from detrojan.data.shaping import Shaping
from detrojan.data.source import Array, Source
from detrojan.data.walking import check_plain
from detrojan.errors import DataError, OptionError
from detrojan.files import at_home
from detrojan.models.preprocessing import Framing
from detrojan.parsing.strangers import address, stranger

logger = logging.getLogger(__name__)

#: more samples than any file has; the order of that many positions would fill the memory
_MOST_SAMPLES = 100_000_000

DataPath = str | Path | Sequence[str | Path]


def read_data(
    path: DataPath,
    *,
    split: str | None = None,
    data_range: Range | None = None,
    resize: Size | None = None,
    framing: Framing | None = None,
    crop: bool = False,
    unlabelled: bool = False,
    limit: int | None = None,
    strict: bool = False,
    generator: torch.Generator | None = None,
) -> Dataset:
    """Read images, with labels where there are any.

    Args:
        path: a file or folder of any kind in `data.formats`, a word such as `signs`, or a list of pictures.
        split: "train", "test" or "val" where the data have splits; None takes the only one, or test.
        data_range: (low, high), the stored values of black and white; None: uint8 is 0..255, floats
            must lie within [0, 1].
        resize: (H, W) in pixels to bring all images to, bilinear.
        framing: how pictures of other sizes are framed, where neither `resize` nor `crop` is given.
        crop: cut each image to its region of interest, the array `roi` of the file.
        unlabelled: leave the labels out, also where the file has some.
        limit: at most this many images, drawn at random without repeats; only these are decoded.
        strict: refuse a picture that cannot be decoded; else it is skipped and listed in `skipped`.
        generator: randomness for `limit`; a fixed seed where None.

    Returns:
        Images (N, C, H, W) float32 in [0, 1]; `notes` says how they were read, and the notes that
        begin with "warning:" are for people to see.

    Raises:
        UnsafeFileError: reading the file would run code from it, or open other files.
        DataError: the data cannot be read, are empty or damaged.
        RangeError: pixel values outside the range.
        LabelError: labels that are not whole numbers from 0, or not one per image.
        OptionError: a limit, size or range that makes no sense.

    """
    if limit is not None and limit < 1:
        raise OptionError(f"expected a limit of at least 1 image, got {limit}")
    source = _open(path, split, unlabelled=unlabelled)
    labels, names, notes = _labels(source, unlabelled=unlabelled)
    index = _choose(source.count, limit, generator)
    if len(index) < source.count:
        notes.append(f"{len(index)} of {source.count} images, drawn at random")
    shaping = Shaping(source, index, resize, framing, crop=crop)
    drawn = _draw(source, index, data_range, shaping, strict=strict)
    index = index[drawn.places]
    digest, told = digest_of(source, _place(path), index, drawn.images)
    data = _dataset(source, drawn, index, labels)
    data = replace(data, class_names=names, sha256=digest, notes=(*notes, *drawn.notes, *told))
    for text in data.warnings:
        logger.warning("%s: %s", source.where, text)
    return data


def read_held(source: Source, *, size: Size | None = None, framing: Framing | None = None) -> Dataset:
    """Return samples that lie in memory, treated as those of a file.

    Args:
        source: all of its samples are taken.
        size: (H, W) in pixels to bring all images to, bilinear.
        framing: how images of other sizes are framed, where no size is given.

    Raises:
        DataError: a picture that cannot be decoded, or images of several sizes that nothing brings to one.
        RangeError: pixel values outside of [0, 1], or of 0..255.

    """
    index = np.arange(source.count)
    drawn = _draw(source, index, None, Shaping(source, index, size, framing, crop=False), strict=True)
    return replace(_dataset(source, drawn, index, None), notes=tuple(drawn.notes))


def _dataset(
    source: Source, drawn: Drawn, index: NDArray[np.int64], labels: NDArray[np.int64] | None
) -> Dataset:
    """Return the samples at `index` of a source, as they were drawn."""
    part = len(index) < source.count
    return Dataset(
        images=torch.from_numpy(drawn.images),
        labels=None if labels is None else torch.from_numpy(labels[index]),
        named=labels is not None and (source.named or is_text(source.labels)),
        source=source.where,
        skipped=(*source.skipped, *drawn.skipped),
        extra={name: _tensor(values[index]) for name, values in source.extra.items()},
        files=source.files and tuple(source.files[position] for position in index.tolist()),
        positions=torch.from_numpy(index) if part else None,
        total=source.count if part else 0,
    )


def splits_of(path: DataPath) -> tuple[str, ...]:
    """Return which splits there are to read, without reading their pixels.

    Args:
        path: as for `read_data`.

    Returns:
        Some of "train", "test" and "val"; an empty name stands for images that belong to no split.

    Raises:
        DataError: the data cannot be read, are empty or damaged.

    """
    if not isinstance(path, str | Path):
        return ("",)
    place = Place.of(path)
    return _format_of(place).splits(place)


def _open(path: DataPath, split: str | None, *, unlabelled: bool) -> Source:
    """Look into what a path names."""
    if isinstance(path, str | Path):
        place = Place.of(path)
        source = _format_of(place).read(place, split, unlabelled=unlabelled)
    else:
        source = read_pictures([at_home(item) for item in path])
    if source.count <= 0:
        raise DataError(f"{source.where}: expected at least one image, got none")
    if source.count > _MOST_SAMPLES:
        raise DataError(f"{source.where}: expected at most {_MOST_SAMPLES:,} images, got {source.count:,}")
    return source


def _place(path: DataPath) -> Path:
    """Return what a path names; of a list, the folder of its first."""
    return Path(path) if isinstance(path, str | Path) else Path(path[0]).parent


def _format_of(place: Place) -> Format:
    """Return the format that recognises a place."""
    check_plain(place.path)
    for one in formats():
        if one.recognises(place):
            return one
    if not (place.is_folder or os.path.lexists(place.path)):
        raise DataError(address(place.path) or f"there is no file or folder {place.path}; expected {kinds()}")
    told = stranger(place.path)
    if told:
        raise DataError(f"{place.path}: expected images, got {told}")
    got = "something else" if place.head else "an empty file"
    raise DataError(f"{place.path}: expected {kinds()}, got {got}")


def data_digest(path: DataPath) -> str:
    """Return a SHA-256 of what a path names, for telling whether it is still the same.

    It covers the files of all splits, by `digest_of`; of large data by name and size only.

    Raises:
        DataError: there is no such file, or it cannot be read.

    """
    if not isinstance(path, str | Path):
        return digest_of(_open(path, None, unlabelled=True), _place(path))[0]
    place = Place.of(path)
    if place.word in words():
        return hashlib.sha256(place.word.encode()).hexdigest()
    found = _format_of(place)
    sources = [found.read(place, split or None, unlabelled=True) for split in found.splits(place)]
    digests = [digest_of(source, place.path)[0] for source in sources]
    return digests[0] if len(set(digests)) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _labels(
    source: Source, *, unlabelled: bool
) -> tuple[NDArray[np.int64] | None, tuple[str, ...], list[str]]:
    """Return the labels (N,) with the names of the classes, and all that was said so far of the reading."""
    if source.labels is None:
        return None, (), [*source.notes, *([] if unlabelled else ["no labels"])]
    labels, names, notes = clean_labels(source.labels, source.count, source.class_names, source.where)
    return labels, names, [*source.notes, *notes]


def _choose(count: int, limit: int | None, generator: torch.Generator | None) -> NDArray[np.int64]:
    """Return the positions to read: all in their order, or `limit` of them at random."""
    if limit is None or limit >= count:
        return np.arange(count, dtype=np.int64)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    chosen: NDArray[np.int64] = torch.randperm(count, generator=generator)[:limit].numpy()
    return chosen


def _draw(
    source: Source,
    index: NDArray[np.int64],
    data_range: Range | None,
    shaping: Shaping,
    *,
    strict: bool,
) -> Drawn:
    """Decode, cut, resize and scale the images at `index`."""
    if source.pictures is not None:
        drawn = draw_pictures(source, index, data_range, shaping, strict=strict)
    else:
        drawn = draw_arrays(source, index, data_range, shaping)
    return replace(drawn, notes=[*drawn.notes, *shaping.notes(drawn.sizes)])


def _tensor(values: Array) -> torch.Tensor:
    """Return a per-sample array as a tensor; torch knows few unsigned types and one byte order."""
    known = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64}
    return torch.from_numpy(np.ascontiguousarray(values.astype(known[values.dtype.kind])))
