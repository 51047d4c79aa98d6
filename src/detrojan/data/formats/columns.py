"""Which columns of a table of text hold the pictures, their labels and their splits."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from detrojan.data.decoding import OTHER_SUFFIXES, SUFFIXES

FILES = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "image_file",
    "image_name",
    "img",
    "img_path",
    "img_name",
)
#: columns that may name pictures without their endings
NUMBERS = ("id", "image_id", "img_id", "imageid", "id_code", "name")
LABELS = ("label", "labels", "class", "class_name", "classname", "target", "category", "label_name", "y")
SPLITS = ("split", "subset", "partition", "fold")
#: rows at the beginning that are looked at
_ROWS = 20
#: no label is longer, in letters
_LONGEST = 100
#: columns of zeros and ones, one for each class, are not more than these
_MOST_CLASSES = 5000


@dataclass(frozen=True)
class Columns:
    """What the columns of a table mean.

    Attributes:
        separator: what stands between two values.
        encoding: of the text.
        header: whether the first line holds the names of the columns.
        file: place of the column that names the pictures.
        known: whether that column is called as such columns are; else the pictures have to be there.
        label: place of the column of labels; None where each class has a column.
        split: place of the column of splits, or None.
        classes: place and name of each class's column; empty where there is a column of labels.
        first: what the first rows call their pictures.

    """

    separator: str
    encoding: str
    header: bool
    file: int
    known: bool
    label: int | None
    split: int | None
    classes: tuple[tuple[int, str], ...]
    first: tuple[str, ...]

    def values(self, row: Sequence[str]) -> tuple[str, str | None, str | None]:
        """Return file, label and split of a row; a value that is missing is empty or None."""
        if self.label is not None:
            label = _at(row, self.label)
        else:
            ones = [name for place, name in self.classes if (_at(row, place) or "").strip() in _ONE]
            label = ones[0] if len(ones) == 1 else None
        return _at(row, self.file) or "", label, None if self.split is None else _at(row, self.split)


_ONE, _ZERO = {"1", "1.0", "True", "true"}, {"0", "0.0", "False", "false", ""}


def _at(row: Sequence[str], place: int) -> str | None:
    return row[place] if place < len(row) else None


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text, by its first bytes."""
    return "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def columns_of(head: bytes) -> Columns | None:
    """Return what the columns of a table mean, by its beginning; None where it lists no pictures.

    The column of pictures is known by its name, or by the endings of its values. Without a first line of
    names, or where no column is called as labels are, the only other column holds the labels.
    """
    encoding = encoding_of(head)
    text = head.decode(encoding, "replace")
    if "\0" in text:
        return None
    lines = text.splitlines()[: _ROWS + 1]
    separator = _separator(lines[0] if lines else "")
    try:
        rows = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator) if row]
    except csv.Error:
        return None
    if not rows or len(rows[0]) < 2:
        return None
    header = not any(_is_picture(value) for value in rows[0])
    names = [name.strip().strip('"').lower() for name in rows[0]] if header else [""] * len(rows[0])
    first = rows[1:] if header else rows
    file, known = _file_column(names, first)
    if file is None:
        return None
    split = _named(names, SPLITS)
    label, classes = _label_columns(rows[0] if header else [], names, first, (file, split))
    if label is None and not classes:
        return None
    called = tuple(value for row in first if (value := _at(row, file)))
    return Columns(separator, encoding, header, file, known, label, split, classes, called)


def _file_column(names: list[str], rows: list[list[str]]) -> tuple[int | None, bool]:
    """Return the place of the column of pictures, and whether its name says so."""
    place = _named(names, FILES)
    if place is not None:
        values = [row[place] for row in rows if place < len(row)]
        return place, any(map(_is_picture, values)) or not any(value.strip() for value in values)
    for place in range(len(names)):
        values = [row[place] for row in rows if place < len(row)]
        if values and all(map(_is_picture, values)):
            return place, False
    return _named(names, NUMBERS), False


def _label_columns(
    titles: list[str], names: list[str], rows: list[list[str]], used: tuple[int | None, ...]
) -> tuple[int | None, tuple[tuple[int, str], ...]]:
    """Return the place of the column of labels, or the place and name of each class's column."""
    place = _named(names, LABELS)
    if place is not None:
        return place, ()
    others = [at for at in range(len(names)) if at not in used]
    if len(others) == 1:
        return (others[0] if _can_be_labels([_at(row, others[0]) or "" for row in rows]) else None), ()
    if not titles or not 2 <= len(others) <= _MOST_CLASSES or not rows:
        return None, ()
    for row in rows:
        values = [(_at(row, at) or "").strip() for at in others]
        if not all(value in _ONE | _ZERO for value in values) or sum(value in _ONE for value in values) != 1:
            return None, ()
    return None, tuple((at, titles[at].strip()) for at in others)


def _can_be_labels(values: list[str]) -> bool:
    """Tell whether values may be labels: they are short, and do not just count the rows."""
    if any(len(value) > _LONGEST for value in values):
        return False
    numbers = [int(value) for value in values if value.strip().isdecimal() and len(value) < _LONGEST]
    counted = [number - place for place, number in enumerate(numbers)]
    return len(values) < 3 or len(numbers) < len(values) or len(set(counted)) > 1


def _named(names: list[str], known: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _separator(line: str) -> str:
    found = max(("\t", ";", ",", "|"), key=line.count)
    return found if found in line else " "


def _is_picture(value: str) -> bool:
    return PurePosixPath(value.strip().lower()).suffix in SUFFIXES | OTHER_SUFFIXES
