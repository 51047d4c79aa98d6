"""GTSRB's official folders: pictures of traffic signs, with a table of classes and regions of interest."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detrojan.data.formats.base import Format, Place
from detrojan.data.source import Source, choose_split, pictures_in
from detrojan.errors import DataError

#: the columns of a table that are needed, beside the file's name
_NUMBERS = ("Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
_FILES = ("Filename", "Path")
#: a table with more rows than this is not GTSRB's
_MOST_ROWS = 1_000_000
_SPLITS = {
    "train": ("Final_Training/Images", "GTSRB/Final_Training/Images", "Training", "GTSRB/Training"),
    "test": ("Final_Test/Images", "GTSRB/Final_Test/Images"),
}


@dataclass(frozen=True)
class _Row:
    path: Path
    roi: tuple[int, ...]
    label: int | None
    track: int
    frame: int


class GtsrbFolder(Format):
    """GTSRB's folder, with its tables."""

    kind = "GTSRB's folder"
    listed = (
        ("gtsrb", "GTSRB's official folder with its tables, or with Train.csv and Test.csv; --crop cuts"),
    )
    precedence = 50

    def recognises(self, place: Place) -> bool:
        """Tell whether a folder has such tables."""
        return place.is_folder and bool(tables(place.path))

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that have tables."""
        return tuple(tables(place.path))

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the tables of a split."""
        return read_gtsrb(place.path, split, unlabelled=unlabelled)


def tables(folder: Path) -> dict[str, list[Path]]:
    """Return the tables in a folder of GTSRB by split, "" where it names none; none for other folders."""
    found: dict[str, list[Path]] = {}
    for split, places in _SPLITS.items():
        for place in places:
            listed = _official(folder / place)
            if listed:
                found.setdefault(split, listed)
        flat = folder / f"{split.title()}.csv"
        if flat.is_file():
            found.setdefault(split, [flat])
    if not found and (own := _official(folder)):
        found[""] = own
    return found


def _official(folder: Path) -> list[Path]:
    """Return the tables GT-*.csv of a folder and of the folders in it, with classes where there are both."""
    if not folder.is_dir():
        return []
    listed = sorted([*folder.glob("GT-*.csv"), *folder.glob("[0-9]*/GT-*.csv")])
    labelled = [path for path in listed if not path.name.endswith(".test.csv")]
    return labelled or listed


def read_gtsrb(folder: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a folder of GTSRB, as its authors pack it or with the tables Train.csv and Test.csv.

    The pictures keep their sizes; `roi` says where the sign is in each, `track` which pictures show
    one physical sign.

    Args:
        folder: where it was unpacked.
        split: "train" or "test"; None takes the only one, or test.
        unlabelled: leave the classes out.

    Raises:
        DataError: a damaged table, a picture outside the folder, or one that cannot be read.

    """
    found = tables(folder)
    chosen, notes = choose_split(found, split, str(folder))
    rows = [row for table in found[chosen] for row in _rows(table)]
    if not rows:
        raise DataError(f"{folder}: expected signs in its tables, got none")
    labels = [row.label for row in rows]
    known = [label for label in labels if label is not None]
    if not unlabelled and 0 < len(known) < len(labels):
        raise DataError(f"{folder}: expected a ClassId in each row, got {len(known)} of {len(labels)}")

    files = tuple(str(row.path) for row in rows)
    return Source(
        where=str(folder),
        count=len(rows),
        pictures=pictures_in(files, lambda position: rows[position].path, folder),
        labels=np.asarray(known, dtype=np.int64) if known and not unlabelled else None,
        files=files,
        used=tuple(found[chosen]),
        notes=(*notes, f"GTSRB, {len(found[chosen])} tables"),
        extra={
            "roi": np.asarray([row.roi for row in rows], dtype=np.int64),
            "track": np.asarray([row.track for row in rows], dtype=np.int64),
            "frame": np.asarray([row.frame for row in rows], dtype=np.int64),
        },
    )


def _rows(table: Path) -> list[_Row]:
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            first = stream.readline()
            separator = ";" if ";" in first else ","
            names = [name.strip() for name in first.strip().split(separator)]
            column = next((name for name in _FILES if name in names), None)
            missing = [name for name in _NUMBERS if name not in names]
            if column is None or missing:
                raise DataError(
                    f"{table}: expected the columns Filename (or Path), {', '.join(_NUMBERS)}, "
                    f"got {', '.join(names)[:200]}"
                )
            found = []
            for number, values in enumerate(csv.reader(stream, delimiter=separator), 2):
                if number > _MOST_ROWS:
                    raise DataError(f"{table}: expected at most {_MOST_ROWS:,} rows")
                if values:
                    found.append(_row(table, number, dict(zip(names, values, strict=False)), column))
    except (OSError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}") from error
    return found


def _row(table: Path, number: int, values: dict[str, str], column: str) -> _Row:
    try:
        roi = tuple(int(values[name]) for name in _NUMBERS)
        label = int(values["ClassId"]) if values.get("ClassId", "").strip() else None
        name = values[column].strip()
    except (KeyError, ValueError) as error:
        raise DataError(f"{table}: row {number}: expected whole numbers, got {values!r:.120}") from error
    path = table.parent / name
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{table}: row {number}: expected a picture within the folder, got {name!r:.120}")
    pieces = [piece for piece in Path(name).stem.split("_") if piece.isdecimal()][-2:]
    track, frame = (int(pieces[0]), int(pieces[1])) if len(pieces) == 2 else (number, 0)
    # tracks are counted anew in each class
    return _Row(path=path, roi=roi, label=label, track=track + 100_000 * (label or 0), frame=frame)
