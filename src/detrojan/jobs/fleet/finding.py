"""Finds a fleet's models: in folders, by patterns, in lists, in the hub's cache, in registries."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detrojan.errors import DataError, DetrojanError, InputError, ModelError, OptionError
from detrojan.files import refuse_special
from detrojan.jobs.fleet.feeding import Feeding, is_list, refuse_code
from detrojan.jobs.fleet.found import ENDINGS, Found, Search, is_model_folder
from detrojan.jobs.fleet.registry import is_registry, registered
from detrojan.models.loading import format_of
from detrojan.quarantine import quarantined

#: what a column of a list may be called that holds the model
COLUMNS = ("model", "path", "file")
_MOST_ROWS, _LONGEST = 1_000_000, 1 << 28
#: how a folder of the hub's cache is called
_HUB = "models--"


def find_models(targets: Sequence[str], without: Path | None = None) -> Search:
    """Return the models that targets name.

    Args:
        targets: each a model's file or folder, a folder of models, the hub's cache, a pattern such as
            `models/**/*.pt`, a list: CSV, TSV or JSON lines with a column `model` and, as columns, what
            `Feeding` may state; or a registry of MLflow, such as `mlflow:http://host:5000`.
        without: a folder that is not looked into: the one of the results.

    Raises:
        InputError: nothing is there, or a list or a registry that cannot be read.
        MissingExtraError: a registry needs a library that is not installed.
        OptionError: a name that two models have, or a registry that is spelled wrongly.

    """
    search = Search(without=without)
    for target in targets:
        if is_registry(target):
            for found in registered(target):
                search.add(found)
            continue
        path = Path(target)
        if _exists(path):
            _add(search, path)
            continue
        matches = sorted(glob.glob(target, recursive=True)) if glob.has_magic(target) else []  # noqa: PTH207
        if not matches:
            raise InputError(f"expected a model, a folder, a list or a pattern; {target} names nothing")
        for match in matches:
            if Path(match).is_dir():
                _look(search, Path(match))
            elif Path(match).is_file():
                search.add(Found(name=match, path=Path(match)))
    twice = [name for name, count in Counter(one.name for one in search.models).items() if count > 1]
    if twice:
        raise OptionError(f"expected another name for each model, got {twice[0]!r} twice")
    return search


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _add(search: Search, path: Path) -> None:
    if path.is_dir():
        _look(search, path)
    elif is_list(path):
        for found in read_list(path):
            search.add(found)
    else:
        search.add(Found(name=str(path), path=path))


def _look(search: Search, folder: Path) -> None:
    """Look through a folder; a folder that is a model is one model."""
    if search.without is not None and folder.resolve() == search.without.resolve():
        return
    if folder.name.startswith(_HUB):
        _look_in_hub(search, folder)
        return
    if is_model_folder(folder):
        search.add(Found(name=str(folder), path=folder))
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        search.add(Found(name=str(folder), path=folder, problem=f"cannot be read: {error.strerror}"))
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith(".") or (entry.is_symlink() and not _stays(path, folder)):
            search.ignored += 1
        elif entry.is_dir():
            _look(search, path)
        elif path.suffix.lower() in ENDINGS or _is_model_file(path):
            search.add(Found(name=str(path), path=path))
        else:
            search.ignored += 1


def _look_in_hub(search: Search, folder: Path) -> None:
    """Add the snapshots of one repository of the hub's cache."""
    name = "/".join(folder.name.removeprefix(_HUB).split("--"))
    snapshots = sorted(path for path in folder.glob("snapshots/*") if path.is_dir())
    for path in snapshots:
        if is_model_folder(path):
            search.add(Found(name=f"{name}@{path.name[:8]}", path=path))
        else:
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
            for file in files:
                search.add(Found(name=f"{name}@{path.name[:8]}/{file.name}", path=file))
            search.ignored += not files


def _stays(path: Path, folder: Path) -> bool:
    """Tell whether a link leads to a plain file of the same folder; other links are not followed."""
    try:
        return path.resolve(strict=True).parent == folder.resolve() and path.is_file()
    except (OSError, RuntimeError):
        return False


def _is_model_file(path: Path) -> bool:
    """Tell by its content whether a file with another ending is a model."""
    try:
        refuse_special(path, ModelError)
        return bool(format_of(path).kind)
    except DetrojanError:
        return False


def read_list(path: Path) -> Iterator[Found]:
    """Yield the models that a list names; its files are named relative to the list.

    Raises:
        DataError: it cannot be read, or has no column of models.
        InputError: it states what would run code.

    """
    rows: list[dict[str, Any]] = quarantined(parse_list, path)
    for number, row in enumerate(rows, 1):
        where = f"{path}: row {number}"
        column = next((name for name in COLUMNS if row.get(name)), None)
        if column is None:
            raise DataError(f"{where}: expected a model in a column called {' or '.join(COLUMNS)}, got none")
        model = str(row.pop(column))
        name = str(row.pop("name", None) or model)
        refuse_code(row, where)
        try:
            stated = Feeding.read(row, path.parent, where)
        except DetrojanError as error:
            yield Found(name=name, path=path.parent / model, problem=str(error))
        else:
            yield Found(name=name, path=path.parent / model, stated=stated)


def parse_list(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a list; cells that are empty are left out."""
    try:
        if path.stat().st_size > _LONGEST:
            raise DataError(f"{path}: expected a list of at most {_LONGEST:,} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(file, path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a list of models, CSV or JSON lines: {error}") from error
    return [{name: value for name, value in row.items() if value is not None and value != ""} for row in rows]


def _rows(file: Any, path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix.lower() in {".csv", ".tsv"}:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        for number, row in enumerate(reader, 1):
            if number > _MOST_ROWS or None in row:
                raise DataError(f"{path}: row {number}: expected at most as many cells as there are columns")
            yield {str(name).strip().lower(): (value or "").strip() for name, value in row.items()}
        return
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number}: expected an object of JSON: {error}") from error
        if not isinstance(row, dict) or any(isinstance(value, dict) for value in row.values()):
            raise DataError(f"{path}: line {number}: expected an object of plain values")
        yield {str(name).lower(): value for name, value in row.items()}
