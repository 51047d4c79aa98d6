"""MNIST's official idx files, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.formats.base import Format, Place
from detrojan.data.source import Array, Fetched, Source, check_bytes, choose_split
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

#: an idx file of bytes begins with this, then the number of dimensions
MAGIC = b"\x00\x00\x08"
_SPLITS = {"train": ("train",), "test": ("t10k", "test")}
_ENDS = ("", ".gz")


class IdxFiles(Format):
    """MNIST's idx files: a folder of them, or one."""

    kind = "MNIST's idx files"
    listed = (("mnist", "MNIST's official idx files, plain or gzipped: their folder, or one file of images"),)
    precedence = 40

    def recognises(self, place: Place) -> bool:
        """Tell whether there are files of images in a folder, or a file is an idx file."""
        return bool(image_files(place.path)) if place.is_folder else is_idx(place.path, place.head)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits whose images are there; one file belongs to none."""
        return tuple(image_files(place.path)) if place.is_folder else ("",)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into a folder of idx files, or one file of images."""
        if place.is_folder:
            return read_idx_folder(place.path, split, unlabelled=unlabelled)
        return read_idx_file(place.path, split, unlabelled=unlabelled)


def image_files(folder: Path) -> dict[str, Path]:
    """Return the idx files with images in a folder (or its folder raw), by split."""
    found: dict[str, Path] = {}
    for place in (folder, folder / "raw", folder / "MNIST" / "raw"):
        for split, words in _SPLITS.items():
            for word in words:
                names = [f"{word}-images{dot}idx3-ubyte{end}" for dot in "-." for end in _ENDS]
                paths = [place / name for name in names if (place / name).is_file()]
                if paths:
                    found.setdefault(split, paths[0])
    return found


def is_idx(path: Path, start: bytes) -> bool:
    """Tell whether a file that begins with `start` is an idx file, maybe gzipped."""
    if start.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as stream:
                start = stream.read(4)
        except (OSError, EOFError, zlib.error):
            return False
    return start.startswith(MAGIC)


def read_idx_folder(folder: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a folder with idx files under their official names.

    Args:
        folder: where they lie.
        split: "train" or "test"; None takes test.
        unlabelled: do not look for labels.

    Raises:
        DataError: a damaged file, labels that are not there, or no such split.

    """
    found = image_files(folder)
    chosen, notes = choose_split(found, split, str(folder))
    return _source(found[chosen], notes, unlabelled=unlabelled)


def read_idx_file(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into one idx file of images; its labels lie beside it, under the official name.

    Args:
        path: the file with the images.
        split: one file belongs to no split: None.
        unlabelled: do not look for labels.

    Raises:
        DataError: a damaged file, labels that are not there, or a split.

    """
    choose_split(("",), split, str(path))
    return _source(path, [], unlabelled=unlabelled)


def _source(path: Path, notes: list[str], *, unlabelled: bool) -> Source:
    images = _array(path, 3)
    labels, used = None, [path]
    if not unlabelled:
        used.append(_labels_beside(path))
        labels = _array(used[-1], 1)

    def fetch(index: NDArray[np.int64]) -> Fetched:
        return images[index][..., None], []

    return Source(
        where=str(path),
        count=len(images),
        fetch=fetch,
        labels=labels,
        notes=(*notes, "idx file"),
        used=tuple(used),
    )


def _labels_beside(path: Path) -> Path:
    stem = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    for end in _ENDS:
        beside = path.with_name(stem + end)
        if beside != path and beside.is_file():
            return beside
    raise DataError(f"{path}: expected its labels in {stem} beside it; or read it with --unlabelled")


def _array(path: Path, dimensions: int) -> Array:
    values: Array = quarantined(parse_idx, path, dimensions)
    return values


def parse_idx(path: Path, dimensions: int) -> Array:
    """Return the bytes of an idx file, plain or gzipped.

    Args:
        path: the file.
        dimensions: how many it has to have.

    Raises:
        DataError: it is damaged, or something else.

    """
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            head = stream.read(4)
            if head != MAGIC + bytes([dimensions]):
                raise DataError(
                    f"{path}: expected an idx file of bytes in {dimensions} dimensions, "
                    f"got one that begins with {head.hex()}"
                )
            sides = np.frombuffer(stream.read(4 * dimensions), ">u4")
            if len(sides) < dimensions:
                raise DataError(f"{path}: the file is truncated")
            shape = tuple(map(int, sides))
            size = check_bytes(shape, 1, str(path))
            # one byte more than there should be: a longer file is not what its head says
            content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: the file is truncated or damaged: {error}") from error
    if len(content) != size:
        more = "more" if len(content) > size else f"{len(content):,}"
        raise DataError(f"{path}: expected {size:,} bytes as its head says, got {more}")
    return np.frombuffer(content, np.uint8).reshape(shape)
