"""Images from picture files: a folder per class, a flat folder, or a list of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.decoding import SUFFIXES, decode, decoding, even_channels, transparency_note
from detrojan.data.formats.base import Format, Place
from detrojan.data.source import Fetched, Source, choose_split, split_name
from detrojan.errors import DataError

_HEADS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"P5", b"P6", b"RIFF")


class ImageFolder(Format):
    """Pictures: a folder of them, or one. Any folder is taken for one that no other format knows."""

    kind = "a folder of pictures, a picture"
    listed = (
        ("folder", "pictures, a folder per class, or without labels"),
        ("picture", "JPEG, PNG, BMP, PPM or WebP"),
    )
    precedence = 90

    def recognises(self, place: Place) -> bool:
        """Tell whether it is a folder, or a picture by its first bytes."""
        return place.is_folder or (place.head.startswith(_HEADS) and place.head[8:12] != b"WAVE")

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have a folder each."""
        found = _split_folders(place.path) if place.is_folder else {}
        return tuple(found) or ("",)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into a folder of pictures, or take one picture, which has no label."""
        if place.is_folder:
            return read_folder(place.path, split, unlabelled=unlabelled)
        choose_split(("",), split, str(place.path))
        return read_pictures([place.path])


def read_folder(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a folder of pictures.

    A folder per class gives labels in the sorted order of the folders' names; pictures that lie
    in the folder itself have none. Folders that are all called train, test or val hold splits.

    Args:
        path: the folder.
        split: which split, where there are such folders.
        unlabelled: leave the labels out.

    Raises:
        DataError: no pictures, or pictures beside class folders.

    """
    notes: list[str] = []
    if splits := _split_folders(path):
        chosen, notes = choose_split(splits, split, str(path))
        path = splits[chosen]
    elif split is not None:
        raise DataError(f"{path}: expected a folder {split_name(split)}, got none")
    folders = _folders(path)
    loose, skipped = _pictures(path, deep=False)
    if loose and folders:
        raise DataError(
            f"{path}: expected a folder per class, or pictures only, "
            f"got {len(loose)} pictures beside {len(folders)} folders"
        )
    if loose:
        return _source(path, loose, notes=notes, skipped=skipped)
    files, labels = [], []
    for label, folder in enumerate(folders):
        inside, odd = _pictures(folder, deep=True)
        files += inside
        labels += [label] * len(inside)
        skipped += odd
    if not files:
        raise _no_pictures(path)
    names = tuple(folder.name for folder in folders)
    notes += _order_note(names)
    return _source(path, files, None if unlabelled else labels, names, notes=notes, skipped=skipped)


def read_pictures(paths: Sequence[Path]) -> Source:
    """Take a list of picture files, without labels; a folder stands for the pictures in it.

    Raises:
        DataError: the list is empty, a file or folder is not there, or a folder holds no pictures.

    """
    files, skipped = picture_files(paths)
    where = paths[0] if len(paths) == 1 else paths[0].parent
    return _source(where, files, skipped=skipped)


def picture_files(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Return the picture files that are named or lie in named folders, and how many others lie there.

    Raises:
        DataError: as `read_pictures`.

    """
    if not paths:
        raise DataError("expected at least one picture file, got none")
    files, skipped = [], 0
    for path in paths:
        if path.is_dir():
            inside, odd = _pictures(path, deep=True)
            if not inside:
                raise _no_pictures(path)
            files += inside
            skipped += odd
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"there is no file or folder {path}")
    return files, skipped


def _source(
    path: Path,
    files: list[Path],
    labels: list[int] | None = None,
    names: tuple[str, ...] = (),
    *,
    notes: Sequence[str] = (),
    skipped: int = 0,
) -> Source:
    more = [f"{skipped} files that are not pictures were left out"] if skipped else []

    def fetch(index: NDArray[np.int64]) -> Fetched:
        images, dropped = [], 0
        for position in index.tolist():
            with decoding(str(files[position])), files[position].open("rb") as stream:
                pixels, transparent = decode(stream, str(files[position]))
            images.append(pixels)
            dropped += transparent
        images, evened = even_channels(images)
        return images, evened + transparency_note(dropped)

    return Source(
        where=str(path),
        count=len(files),
        fetch=fetch,
        labels=None if labels is None else np.asarray(labels, dtype=np.int64),
        class_names=names,
        notes=(*notes, *more),
        files=tuple(map(str, files)),
    )


def _split_folders(path: Path) -> dict[str, Path]:
    """Return the folders in a folder by split, where all of them are called so; else none."""
    try:
        return {split_name(folder.name): folder for folder in _folders(path)}
    except DataError:
        return {}


def _folders(path: Path) -> list[Path]:
    return sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))


def _no_pictures(path: Path) -> DataError:
    return DataError(f"{path}: expected pictures ({', '.join(sorted(SUFFIXES))}), got none")


def _pictures(path: Path, *, deep: bool) -> tuple[list[Path], int]:
    """Return the picture files, sorted, and how many other files there are."""
    found = path.rglob("*") if deep else path.iterdir()
    files = sorted(item for item in found if item.is_file() and not item.name.startswith("."))
    pictures = [item for item in files if item.suffix.lower() in SUFFIXES]
    return pictures, len(files) - len(pictures)


def _order_note(names: tuple[str, ...]) -> list[str]:
    if all(name.isdecimal() for name in names) and list(names) != sorted(names, key=int):
        label = next(place for place, name in enumerate(names) if int(name) != place)
        note = (
            "warning: class folders are numbers of different lengths and are sorted as text, as training "
            f"tools do: label {label} is the folder {names[label]!r}"
        )
        return [note]
    return []
