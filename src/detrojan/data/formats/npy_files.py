"""Images from NumPy's `.npy` files: one array in each, alone or beside the array of its labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.npz_arrays import (
    Arrays,
    Header,
    parse_loose,
    parse_loose_header,
    parse_loose_rows,
    plain_dtype,
)
from detrojan.data.formats.npz_file import read_stored, splits_stored
from detrojan.data.source import IMAGE_NAMES, LABEL_NAMES, Array, Source, by_split
from detrojan.data.walking import is_folder, walk
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

_MAGIC = b"\x93NUMPY"


class NpyFiles(Format):
    """NumPy's `.npy` files."""

    kind = "an .npy file"
    listed = ((".npy", "one array of images; labels in a file beside it (x_test.npy and y_test.npy, ...)"),)
    precedence = 12

    def recognises(self, place: Place) -> bool:
        """Tell whether it is such a file, or a folder with some whose names say what they are."""
        if place.is_folder:
            return any(group.keys() & set(IMAGE_NAMES) for group in by_split(_inside(place.path)).values())
        return place.head.startswith(_MAGIC)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have images."""
        return splits_stored(_loose(place.path))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the files."""
        loose = _loose(place.path)
        found = read_stored(loose, split, unlabelled=unlabelled)
        told = f"labels from {loose.files['labels'].name}" if "labels" in loose.files else ""
        noted = (told,) if told and not place.is_folder and not unlabelled else ()
        return replace(found, used=tuple(loose.files.values()), notes=(*found.notes, *noted))


class Loose(Arrays):
    """Arrays that lie in a file each.

    Args:
        path: the file or folder that was named.
        files: the files, by the names of their arrays.

    Raises:
        DataError: one is damaged.

    """

    def __init__(self, path: Path, files: dict[str, Path]) -> None:
        self.path, self.files, self.has_pickle = path, files, False
        self.headers = {}
        for name, file in files.items():
            shape, text = quarantined(parse_loose_header, file)
            self.headers[name] = Header(tuple(shape), plain_dtype(text))

    def _rows(self, name: str, rows: Array) -> Array:
        values: Array = quarantined(parse_loose_rows, self.files[name], rows)
        return values

    def _whole(self, name: str) -> Array:
        values: Array = quarantined(parse_loose, self.files[name])
        return values


def _inside(folder: Path) -> dict[str, Path]:
    """Return the files in a folder that has no folders in it, by the names of their arrays."""
    try:
        found = walk(folder, deep=False)
    except DataError:
        return {}
    files = [] if found.folders else found.files
    return {path.stem: path for path in files if path.suffix.lower() == ".npy"}


def _loose(path: Path) -> Loose:
    if is_folder(path):
        return Loose(path, _inside(path))
    files = {"images": path}
    beside = _labels_beside(path)
    if beside is not None:
        files["labels"] = beside
    return Loose(path, files)


def _labels_beside(path: Path) -> Path | None:
    """Return the file of labels that goes by the name of a file of images; None where there is none."""
    around = {near.stem: near for near in walk(path.parent, deep=False).files if near.suffix == ".npy"}
    for group in by_split(around).values():
        images = [base for base in IMAGE_NAMES if group.get(base) == path.stem]
        labels = [group[base] for base in LABEL_NAMES if base in group]
        if images and labels:
            return around[labels[0]]
    return None
