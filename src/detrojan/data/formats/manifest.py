"""A table that lists pictures with their labels: CSV, TSV, or an object of JSON in each line."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from detrojan.data.decoding import SUFFIXES
from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.columns import FILES, LABELS, SPLITS, columns_of
from detrojan.data.source import Array, Source, choose_split, pictures_in, split_name
from detrojan.data.walking import first_bytes, is_file, open_plain
from detrojan.errors import DataError, LabelError
from detrojan.quarantine import quarantined

_SUFFIXES = {".csv", ".tsv", ".jsonl", ".ndjson", ".txt"}
#: where pictures lie, seen from the table
_FOLDERS = ("", "images", "image", "imgs", "img", "pictures", "photos", "data", "train", "train_images")
#: bytes at the beginning that tell what a table holds
_HEAD = 2**16
_MOST_ROWS, _LONGEST = 5_000_000, 2**20


class Manifest(Format):
    """A table of pictures, or the folder that it lies in."""

    kind = "a table of pictures (CSV or JSON lines)"
    listed = (
        ("table", "CSV, TSV or JSON lines with a column of files and one of labels, maybe one of splits"),
    )
    precedence = 55

    def recognises(self, place: Place) -> bool:
        """Tell whether a file is such a table, or a folder holds one."""
        return bool(tables(place.path)) if place.is_folder else is_table(place.path)

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that tables, or a column of the only table, name."""
        found = tables(place.path) if place.is_folder else {"": [place.path]}
        if set(found) != {""}:
            return tuple(found)
        return tuple(sorted(set(_rows(_only(found[""], place.path))["splits"]))) or ("",)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the table."""
        return read_manifest(place.path, split, unlabelled=unlabelled)


def is_table(path: Path) -> bool:
    """Tell whether a file lists pictures with labels, by its beginning.

    Where no column is called as files are, one of the first pictures has to be there.
    """
    try:
        head = first_bytes(path, _HEAD) if is_file(path) else b""
    except DataError:
        return False
    names = _json_names(head)
    if names:
        return _column(names, FILES) is not None and _column(names, LABELS) is not None
    found = columns_of(head)
    if found is None or "submission" in path.stem.lower():
        return False
    return found.known or _where(path, list(found.first)) is not None


def tables(folder: Path) -> dict[str, list[Path]]:
    """Return the tables that lie in a folder, by split where all of them are named after one."""
    try:
        inside = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    except OSError:
        return {}
    found = [path for path in inside if not path.name.startswith(".") and is_table(path)]
    named: dict[str, list[Path]] = {}
    for path in found:
        word = path.stem.lower().replace("labels", "").replace("metadata", "").strip("_-. ")
        try:
            named.setdefault(split_name(word), []).append(path)
        except DataError:
            return {"": found}
    return named


def read_manifest(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a table of pictures, or the folder with it.

    Files are named relative to the table, or to a folder images beside it. Labels are whole numbers or text.

    Args:
        path: the table, or its folder.
        split: which split, where tables or a column name some.
        unlabelled: leave the labels out.

    Raises:
        DataError: a damaged table, several tables, a file outside of the table's folder, or no such split.
        LabelError: some rows have no label.

    """
    found = {"": [path]} if is_file(path) else tables(path)
    notes: list[str] = []
    if set(found) != {""}:
        chosen, notes = choose_split(found, split, str(path))
        table, split = _only(found[chosen], path), None
    else:
        table = _only(found[""], path)
    rows = _rows(table)
    places = list(range(len(rows["files"])))
    if rows["splits"]:
        chosen, notes = choose_split(set(rows["splits"]), split, str(table))
        places = [at for at in places if rows["splits"][at] == chosen]
    elif split is not None:
        raise DataError(f"{table}: expected a column of splits for {split_name(split)}, got none")
    named = _Named.of(table, rows["files"])
    files = [named.path(rows["files"][at]) for at in places]
    labels = None if unlabelled else _labels([rows["labels"][at] for at in places], table)
    texts = tuple(map(str, files))
    return Source(
        where=str(path),
        count=len(files),
        pictures=pictures_in(texts, files.__getitem__, table.parent),
        labels=labels,
        notes=(*notes, f"labels from {table.name}"),
        files=texts,
        used=(table,),
    )


def parse_table(path: Path) -> dict[str, list[Any]]:
    """Return the columns `files`, `labels` and `splits` of a table; the last is empty where there is none.

    Raises:
        DataError: a damaged or much too long table, or a file outside of the table's folder.

    """
    head = first_bytes(path, _HEAD)
    rows = _json_rows(path) if _json_names(head) else _csv_rows(path, head)
    found: dict[str, list[Any]] = {"files": [], "labels": [], "splits": []}
    for number, (file, label, split) in enumerate(rows, 1):
        if number > _MOST_ROWS:
            raise DataError(f"{path}: expected at most {_MOST_ROWS:,} rows")
        if not isinstance(file, str) or not file.strip():
            raise DataError(f"{path}: row {number}: expected a file, got none")
        name = _inside(file.strip(), path, number)
        if found["files"] and name.startswith("/") != found["files"][0].startswith("/"):
            raise _outside(path, number, file)
        found["files"].append(name)
        found["labels"].append(label)
        if split is not None:
            found["splits"].append(split_name(str(split)))
    if found["splits"] and len(found["splits"]) != len(found["files"]):
        raise DataError(f"{path}: expected a split in each row, got some without")
    return found


def _rows(table: Path) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = quarantined(parse_table, table)
    return rows


def _csv_rows(path: Path, head: bytes) -> Any:
    columns = columns_of(head)
    if columns is None:
        raise DataError(f"{path}: expected a table with a column of files and one of labels")
    try:
        with open_plain(path) as raw, io.TextIOWrapper(raw, columns.encoding, "replace", newline="") as text:
            rows = csv.reader(text, delimiter=columns.separator)
            if columns.header:
                next(rows, None)
            yield from (columns.values(values) for values in rows if values)
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _json_rows(path: Path) -> Any:
    try:
        with open_plain(path) as raw:
            while line := raw.readline(_LONGEST):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise DataError(f"{path}: expected an object in each line, got {line[:60]!r}")
                    values = {str(name).strip().lower(): value for name, value in row.items()}
                    chosen = (_column(list(values), asked) for asked in (FILES, LABELS, SPLITS))
                    yield [None if name is None else values[name] for name in chosen]
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected an object of JSON in each line: {error}") from error


def _json_names(head: bytes) -> list[str]:
    """Return the names in the object of JSON that the first line holds; none where it holds no such."""
    line = head.split(b"\n", 1)[0].decode("utf-8-sig", "replace").strip()
    if not line.startswith("{"):
        return []
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [str(name).strip().lower() for name in row] if isinstance(row, dict) else []


def _column(names: list[str], known: tuple[str, ...]) -> str | None:
    return next((name for name in known if name in names), None)


def _inside(name: str, table: Path, number: int) -> str:
    """Return the name of a file with / between its parts; one of another machine begins with /."""
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or "\0" in name:
        raise _outside(table, number, name)
    drive = ":" in parts[0]
    return ("/" if drive else "") + "/".join(parts[1:] if drive else parts)


def _outside(table: Path, number: int, name: str) -> DataError:
    return DataError(
        f"{table}: row {number}: expected a picture within the table's folder, got {name!r:.120}"
    )


def _only(found: list[Path], path: Path) -> Path:
    if len(found) != 1:
        names = ", ".join(table.name for table in found[:5])
        raise DataError(f"{path}: expected one table of pictures, got {names}; name one of them with --data")
    return found[0]


@dataclass(frozen=True)
class _Named:
    """How the pictures of a table are found.

    Attributes:
        base: the folder that their names are relative to.
        ending: what is put behind each name.
        cut: parts at the beginning of each name that stand for a folder of another machine.

    """

    base: Path
    ending: str = ""
    cut: int = 0

    @classmethod
    def of(cls, table: Path, names: list[str]) -> _Named:
        """Find the pictures of a table by the first of their names.

        Raises:
            DataError: all names begin at the top of a machine, and none is in the table's folder.

        """
        found = _where(table, names)
        if found is None and names and names[0].startswith("/"):
            raise _outside(table, 1, names[0])
        return cls(table.parent) if found is None else found

    def path(self, name: str) -> Path:
        """Return where a picture lies."""
        parts = [part for part in name.split("/")[self.cut :] if part]
        return self.base / ("/".join(parts) + self.ending)


def _where(table: Path, names: list[str]) -> _Named | None:
    """Return how most of a table's first pictures are found; None where none is there."""
    first = [name.strip().replace("\\", "/") for name in names[:50]]
    if not first or any(".." in name.split("/") for name in first):
        return None
    stem = re.sub(r"[_-]?labels?$", "", table.stem, flags=re.IGNORECASE)
    bases = dict.fromkeys((table.parent, table.parent / stem, *(table.parent / name for name in _FOLDERS)))
    away = first[0].startswith("/") or ":" in first[0].split("/")[0]
    cuts = range(1, first[0].count("/") + 1) if away else (0,)
    endings = ("",) if PurePosixPath(first[0]).suffix.lower() in SUFFIXES else ("", *sorted(SUFFIXES))
    ways = [_Named(base, ending, cut) for cut in cuts for base in bases for ending in endings]
    count, _, best = max(
        (sum(is_file(way.path(name)) for name in first), -at, way) for at, way in enumerate(ways)
    )
    return best if count else None


def _labels(values: list[Any], table: Path) -> Array | None:
    missing = sum(value is None or value == "" for value in values)
    if missing == len(values):
        return None
    if missing:
        raise LabelError(f"{table}: expected a label in each row, got {missing} of {len(values)} without")
    texts = [str(value).strip() for value in values]
    if all(text.isdecimal() for text in texts):
        return np.asarray([int(text) for text in texts], dtype=np.int64)
    return np.asarray(texts)
