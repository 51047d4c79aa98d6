"""A table that lists pictures with their labels: CSV, TSV, or an object of JSON in each line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.data.formats.base import Format, Place
from detrojan.data.source import Array, Source, choose_split, pictures_in, split_name
from detrojan.data.walking import first_bytes, is_file, open_plain
from detrojan.errors import DataError, LabelError
from detrojan.quarantine import quarantined

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
    "img",
)
LABELS = ("label", "labels", "class", "class_name", "classname", "target", "category", "label_name", "y")
SPLITS = ("split", "subset", "partition", "fold")
_SUFFIXES = {".csv", ".tsv", ".jsonl", ".ndjson"}
#: where pictures lie, seen from the table
_FOLDERS = ("", "images", "image", "imgs", "img", "pictures", "photos", "data")
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
    """Tell whether the first line of a file names a column of files and one of labels, or holds both."""
    try:
        names = _names(first_bytes(path, 2**16)) if is_file(path) else []
    except DataError:
        return False
    return _column(names, FILES) is not None and _column(names, LABELS) is not None


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
    base = _base(table, rows["files"])
    files = [base / rows["files"][at] for at in places]
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
        DataError: a damaged or much too long table.

    """
    rows = _json_rows(path) if _names(first_bytes(path, 2**16), only_json=True) else _csv_rows(path)
    found: dict[str, list[Any]] = {"files": [], "labels": [], "splits": []}
    for number, row in enumerate(rows, 1):
        if number > _MOST_ROWS:
            raise DataError(f"{path}: expected at most {_MOST_ROWS:,} rows")
        names = [str(name).strip().lower() for name in row]
        values = dict(zip(names, row.values(), strict=True))
        file, label, split = (_column(names, asked) for asked in (FILES, LABELS, SPLITS))
        if file is None or not isinstance(values[file], str) or not values[file].strip():
            raise DataError(f"{path}: row {number}: expected a file, got none")
        found["files"].append(_inside(values[file].strip(), path, number))
        found["labels"].append(None if label is None else values[label])
        if split is not None:
            found["splits"].append(split_name(str(values[split])))
    if found["splits"] and len(found["splits"]) != len(found["files"]):
        raise DataError(f"{path}: expected a split in each row, got some without")
    return found


def _rows(table: Path) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = quarantined(parse_table, table)
    return rows


def _csv_rows(path: Path) -> Any:
    try:
        with open_plain(path) as raw:
            lines = (line.decode("utf-8-sig", "replace") for line in raw)
            first = next(lines, "")
            separator = _separator(first)
            names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
            for values in csv.reader(lines, delimiter=separator):
                if values:
                    yield dict(zip(names, values, strict=False))
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
                    yield row
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected an object of JSON in each line: {error}") from error


def _names(head: bytes, *, only_json: bool = False) -> list[str]:
    """Return the names that the first line of a table holds; none where it is no table."""
    line = head.split(b"\n", 1)[0].decode("utf-8-sig", "replace").strip()
    if line.startswith("{"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return []
        return [str(name).strip().lower() for name in row] if isinstance(row, dict) else []
    if only_json or "\0" in line or not line:
        return []
    return [name.strip().strip('"').lower() for name in line.split(_separator(line))]


def _separator(line: str) -> str:
    return max(("\t", ";", ","), key=line.count)


def _column(names: list[str], known: tuple[str, ...]) -> str | None:
    return next((name for name in known if name in names), None)


def _inside(name: str, table: Path, number: int) -> str:
    """Return the name of a file, unless it leads out of the table's folder."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise DataError(
            f"{table}: row {number}: expected a picture within the table's folder, got {name!r:.120}"
        )
    return "/".join(parts)


def _only(found: list[Path], path: Path) -> Path:
    if len(found) != 1:
        names = ", ".join(table.name for table in found[:5])
        raise DataError(f"{path}: expected one table of pictures, got {names}; name one of them with --data")
    return found[0]


def _base(table: Path, files: list[str]) -> Path:
    """Return the folder that the files are named relative to: where most of the first ones lie."""
    bases = [table.parent / name for name in _FOLDERS]
    return max(bases, key=lambda base: sum(is_file(base / name) for name in files[:50]))


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
