"""CIFAR's official archives as they are downloaded: nothing is unpacked, and nothing unpickled."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.cifar_files import (
    KINDS,
    MOST_BYTES,
    Kind,
    batch_of,
    batches_source,
    kind_of,
    names_of,
)
from detrojan.data.packed import DAMAGE, Unpacked
from detrojan.data.source import Source, choose_split
from detrojan.data.walking import is_file
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

_NAME, _MAGIC = 100, slice(257, 262)


class CifarArchive(Format):
    """CIFAR's archives: cifar-10-python.tar.gz, cifar-100-binary.tar.gz and so on."""

    kind = "CIFAR's archive"
    listed = (("cifar .tar.gz", "the archives of CIFAR-10 and CIFAR-100 as they are downloaded"),)
    precedence = 44

    def recognises(self, place: Place) -> bool:
        """Tell whether a file is a tar whose first name is the folder of one of the data sets."""
        return not place.is_folder and _kind(place.path) is not None

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return both splits: an archive holds them all."""
        kind = _kind(place.path)
        return () if kind is None else tuple(kind.files)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the archive."""
        kind = _kind(place.path)
        assert kind is not None
        chosen, notes = choose_split(kind.files, split, str(place.path))
        found = quarantined(parse_archive, place.path, kind.folder, chosen)
        missing = len(kind.files[chosen]) - len(found["parts"])
        if missing:
            notes.append(f"warning: {missing} of its batches are missing")
        return batches_source(
            kind,
            found["parts"],
            str(place.path),
            tuple(notes),
            names=tuple(found["names"]),
            used=(place.path,),
        )


def _kind(path: Path) -> Kind | None:
    """Return which data set an archive holds, by its first 512 bytes; None for any other file."""
    try:
        if not is_file(path):
            return None
        with Unpacked(path) as stream:
            head = stream.read(512)
    except (DataError, *DAMAGE):
        return None
    if head[_MAGIC] != b"ustar":
        return None
    first = head[:_NAME].rstrip(b"\0").decode("utf-8", "replace").removeprefix("./")
    return next((kind for kind in KINDS if first.split("/")[0] == kind.folder), None)


def parse_archive(path: Path, folder: str, split: str) -> dict[str, Any]:
    """Return the images (N, 3072) and labels (N,) of each batch of a split, and the names of the classes.

    Args:
        path: the file.
        folder: what the folder in it is called.
        split: "train" or "test".

    Raises:
        DataError: it is damaged, or has no batch of the split.
        UnsafeFileError: a pickled batch holds more than a batch does.

    """
    kind = kind_of(folder)
    parts, names = {}, tuple[str, ...]()
    try:
        with Unpacked(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for item in archive:
                name = PurePosixPath(item.name).name
                wanted = name in kind.files[split] or name == kind.names
                content = archive.extractfile(item) if item.isreg() and wanted else None
                if content is None or item.size > MOST_BYTES:
                    continue
                where = f"{path}: {name}"
                if name == kind.names:
                    names = names_of(content.read(), kind, where)
                else:
                    parts[name] = batch_of(content.read(), kind, where)
    except (tarfile.TarError, OverflowError, *DAMAGE) as error:
        raise DataError(f"{path}: the archive is truncated or damaged: {error}") from error
    if not parts:
        raise DataError(f"{path}: expected the files {', '.join(kind.files[split])}, got none of them")
    return {"parts": [parts[name] for name in sorted(parts)], "names": names}
