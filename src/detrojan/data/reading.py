"""Reads data of any supported kind: a file's content says its kind, not its name."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detrojan.data.dataset import Dataset
from detrojan.data.formats.base import Format, Place, formats, kinds, words
from detrojan.data.formats.image_folder import picture_files, read_pictures
from detrojan.data.geometry import Size, crop_boxes, resample, stacked
from detrojan.data.labels import clean_labels
from detrojan.data.pixels import Range, choose_scale
from detrojan.data.source import Array, Pixels, Source
from detrojan.errors import DataError, OptionError

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
    crop: bool = False,
    unlabelled: bool = False,
    limit: int | None = None,
    generator: torch.Generator | None = None,
) -> Dataset:
    """Read images, with labels where there are any.

    Args:
        path: a file or folder of any kind in `data.formats`, a word such as `signs`, or a list of pictures.
        split: "train", "test" or "val" where the data have splits; None takes the only one, or test.
        data_range: (low, high), the stored values of black and white; None: uint8 is 0..255, floats
            must lie within [0, 1].
        resize: (H, W) in pixels to bring all images to, bilinear.
        crop: cut each image to its region of interest, the array `roi` of the file.
        unlabelled: leave the labels out, also where the file has some.
        limit: at most this many images, drawn at random without repeats; only these are decoded.
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
    source, digest = _open(path, split, unlabelled=unlabelled)
    labels, names, notes = _labels(source, unlabelled=unlabelled)
    index = _choose(source.count, limit, generator)
    drawn = len(index) < source.count
    if drawn:
        notes.append(f"{len(index)} of {source.count} images, drawn at random")
    images, more = _images(source, index, data_range, resize, crop=crop)
    for note in more:
        if note.startswith("warning: "):
            logger.warning("%s: %s", source.where, note.removeprefix("warning: "))
    return Dataset(
        images=images,
        labels=None if labels is None else torch.from_numpy(labels[index]),
        class_names=names,
        source=source.where,
        sha256=digest,
        notes=(*notes, *more),
        extra={name: _tensor(values[index]) for name, values in source.extra.items()},
        files=source.files and tuple(source.files[position] for position in index.tolist()),
        positions=torch.from_numpy(index) if drawn else None,
        total=source.count if drawn else 0,
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


def _open(path: DataPath, split: str | None, *, unlabelled: bool) -> tuple[Source, str]:
    """Look into what a path names; return also its digest."""
    if isinstance(path, str | Path):
        place = Place.of(path)
        source = _format_of(place).read(place, split, unlabelled=unlabelled)
        digest = source.sha256 or _digest(place.path)
    else:
        source, digest = read_pictures([Path(item) for item in path]), data_digest(path)
    if source.count <= 0:
        raise DataError(f"{source.where}: expected at least one image, got none")
    if source.count > _MOST_SAMPLES:
        raise DataError(f"{source.where}: expected at most {_MOST_SAMPLES:,} images, got {source.count:,}")
    return source, digest


def _format_of(place: Place) -> Format:
    """Return the format that recognises a place."""
    for one in formats():
        if one.recognises(place):
            return one
    if not place.path.exists():
        raise DataError(f"there is no file or folder {place.path}; expected {kinds()}")
    got = "something else" if place.head else "an empty file"
    if place.head.startswith(b"\x1f\x8b"):
        got = "a packed file; unpack it first"
    raise DataError(f"{place.path}: expected {kinds()}, got {got}")


def data_digest(path: DataPath) -> str:
    """Return the SHA-256 of what a path names: a file, or a folder's names and contents, or a word.

    Raises:
        DataError: there is no such file, or it cannot be read.

    """
    if not isinstance(path, str | Path):
        paths = [Path(item) for item in path]
        files, _ = picture_files(paths)
        return _digest(paths[0].parent, files)
    place = Place.of(path)
    if place.word in words():
        return hashlib.sha256(place.word.encode()).hexdigest()
    if not place.path.exists():
        raise DataError(f"there is no file or folder {path}; expected {kinds()}")
    return _digest(place.path)


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


def _images(
    source: Source, index: NDArray[np.int64], data_range: Range | None, resize: Size | None, *, crop: bool
) -> tuple[torch.Tensor, list[str]]:
    """Decode, cut, resize and scale the images at `index`."""
    if crop and "roi" not in source.extra:
        raise DataError(f"{source.where}: expected an array roi to crop by, got none")
    pixels, notes = source.fetch(index)
    # the range is judged before resizing, which would hide single pixels that are outside
    scale = choose_scale(pixels, data_range, source.where, bytes_in_floats=source.bytes_in_floats)
    notes += scale.notes
    if crop:
        frames: list[Size] = [(image.shape[0], image.shape[1]) for image in pixels]
        boxes = crop_boxes(source.extra["roi"][index], frames, source.where)
        images = resample(pixels, resize or frames[0], boxes)
        notes.append("cropped to the region of interest, bilinear")
    elif resize is not None:
        images = resample(pixels, resize)
    else:
        images = stacked(pixels, source.where)
    if resize is not None:
        notes.append(_resize_note(pixels, resize))
    unit = scale.apply(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(np.ascontiguousarray(unit)), notes


def _resize_note(pixels: Pixels, size: Size) -> str:
    sizes = sorted({image.shape[:2] for image in pixels})
    before = f"{sizes[0][0]}x{sizes[0][1]}" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    return f"resized from {before} to {size[0]}x{size[1]}, bilinear"


def _tensor(values: Array) -> torch.Tensor:
    """Return a per-sample array as a tensor; torch knows few unsigned types and one byte order."""
    known = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64}
    return torch.from_numpy(np.ascontiguousarray(values.astype(known[values.dtype.kind])))


def _digest(path: Path, files: Sequence[Path] | None = None) -> str:
    """Return the SHA-256 of a file, or of the names and contents of files, in sorted order."""
    digest = hashlib.sha256()
    if files is None and path.is_file():
        _feed(digest, path)
        return digest.hexdigest()
    if files is None:
        files = sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        name = file.relative_to(path) if file.is_relative_to(path) else file
        digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        _feed(digest, file)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, path: Path) -> None:
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
