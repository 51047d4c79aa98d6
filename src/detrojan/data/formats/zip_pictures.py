"""Pictures in a zip file, read where they lie: nothing is unpacked to the disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from detrojan.data.decoding import SUFFIXES
from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.npz_arrays import DAMAGE
from detrojan.data.layout import arrange, is_litter, refuse_table, splits_in
from detrojan.data.source import MOST_ENCODED, Encoded, Source
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

_MOST_MEMBERS = 2_000_000


class ZipPictures(Format):
    """A zip file of pictures."""

    kind = "a zip of pictures"
    listed = ((".zip", "pictures, laid out as in a folder"),)
    precedence = 25

    def recognises(self, place: Place) -> bool:
        """Tell whether a zip holds pictures and no arrays."""
        return place.head.startswith(b"PK\x03\x04") and holds_pictures(place.path)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have a folder each."""
        pictures, _ = _sorted(quarantined(parse_members, place.path))
        return splits_in([PurePosixPath(name) for name in pictures], str(place.path))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the zip."""
        return read_zip(place.path, split, unlabelled=unlabelled)


def holds_pictures(path: Path) -> bool:
    """Tell whether a zip holds pictures and no arrays."""
    try:
        names = [name.lower() for name in quarantined(parse_members, path)]
    except DataError:
        return False
    pictures = any(PurePosixPath(name).suffix in SUFFIXES for name in names)
    return pictures and not any(name.endswith(".npy") for name in names)


def read_zip(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a zip of pictures, laid out as a folder of pictures is.

    Args:
        path: the file.
        split: which split, where there are folders of splits.
        unlabelled: leave the labels out.

    Raises:
        DataError: damaged, no pictures, or a layout that tells no classes.

    """
    pictures, other = _sorted(quarantined(parse_members, path))
    layout = arrange([PurePosixPath(name) for name in pictures], str(path), split=split)
    if len(layout.names) == 1 and not unlabelled:
        refuse_table(str(path), layout.names[0], other)
    names = [pictures[at] for at in layout.chosen]

    def encoded(index: NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        with zipfile.ZipFile(path) as archive:
            for place, position in enumerate(index.tolist()):
                name = names[position]
                yield place, Encoded(f"{path}: {name}", _content(archive, name))

    return Source(
        where=str(path),
        count=len(names),
        pictures=encoded,
        labels=None if unlabelled or layout.labels is None else np.asarray(layout.labels, dtype=np.int64),
        class_names=layout.names,
        named=layout.labels is not None,
        notes=tuple(layout.notes),
        skipped=tuple(f"{path}: {name}: not a picture" for name in other),
    )


def parse_members(path: Path) -> list[str]:
    """Return the names of the files in a zip.

    Raises:
        DataError: it is damaged, or holds millions of files.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [item.filename for item in archive.infolist() if not item.is_dir()]
    except DAMAGE as error:
        raise DataError(f"{path}: the file is truncated or damaged: {error}") from error
    if len(names) > _MOST_MEMBERS:
        raise DataError(f"{path}: expected at most {_MOST_MEMBERS:,} files, got {len(names):,}")
    return names


def _sorted(names: list[str]) -> tuple[list[str], list[str]]:
    """Return the pictures and the other files, without litter."""
    meant = sorted(name for name in names if not is_litter(PurePosixPath(name)))
    pictures = [name for name in meant if PurePosixPath(name).suffix.lower() in SUFFIXES]
    return pictures, [name for name in meant if PurePosixPath(name).suffix.lower() not in SUFFIXES]


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of one member; none where it is damaged, which is found when it is decoded."""
    try:
        with archive.open(name) as stream:
            content = stream.read(MOST_ENCODED + 1)
    except DAMAGE:
        return b""
    return content if len(content) <= MOST_ENCODED else b""
