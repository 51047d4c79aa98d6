"""Images from picture files: a folder per class, a flat folder, or a list of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detrojan.data.decoding import SUFFIXES, decode, decoding, even_channels, transparency_note
from detrojan.data.source import Fetched, Source, choose_split, split_name
from detrojan.errors import DataError


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
    folders = _folders(path)
    splits = {_split_or_none(folder.name): folder for folder in folders}
    if splits and None not in splits:
        chosen, notes = choose_split([name for name in splits if name], split, str(path))
        path = splits[chosen]
        folders = _folders(path)
    elif split is not None:
        raise DataError(f"{path}: expected a folder {split_name(split)}, got none")
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
    """Return the picture files that are named, a folder's in its stead, and how many others lie in folders.

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


def _split_or_none(name: str) -> str | None:
    try:
        return split_name(name)
    except DataError:
        return None


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
