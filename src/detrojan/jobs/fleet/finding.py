"""Finds the models that a fleet consists of: in folders, by patterns, in lists, in the hub's cache."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detrojan.errors import DataError, DetrojanError, InputError, ModelError, OptionError
from detrojan.files import refuse_special
from detrojan.jobs.fleet.feeding import Feeding, is_list, refuse_code
from detrojan.models.formats.base import Content, formats
from detrojan.models.loading import format_of
from detrojan.quarantine import quarantined

#: endings that models have: such a file of a folder is one of the fleet, whether it can be read or not
ENDINGS = frozenset(
    [
        ".bin",
        ".caffemodel",
        ".ckpt",
        ".gguf",
        ".h5",
        ".hdf5",
        ".joblib",
        ".keras",
        ".mlmodel",
        ".model",
        ".msgpack",
        ".onnx",
        ".pb",
        ".pdparams",
        ".pickle",
        ".pkl",
        ".pt",
        ".pt2",
        ".pth",
        ".safetensors",
        ".t7",
        ".tflite",
        ".torchscript",
    ]
)
#: what a column of a list may be called that holds the model
COLUMNS = ("model", "path", "file")
_MOST_ROWS, _LONGEST = 1_000_000, 1 << 28
#: how a folder of the hub's cache is called
_HUB = "models--"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A model that was found, and what is stated of it alone.

    Attributes:
        name: what people call it.
        path: its file or folder.
        stated: what a list says of how it is fed and judged.
        problem: why what a list says of it cannot be used, or empty.

    """

    name: str
    path: Path
    stated: Feeding = field(default_factory=Feeding)
    problem: str = ""


@dataclass
class Search:
    """What was found so far.

    Attributes:
        models: each once, in the order in which they were found.
        ignored: how many files are no models.
        without: a folder that is not looked into: the one of the results.

    """

    models: list[Found] = field(default_factory=list)
    ignored: int = 0
    without: Path | None = None
    _known: set[tuple[str, str]] = field(default_factory=set)

    def add(self, found: Found) -> None:
        """Add a model, unless it was found before."""
        place = (os.path.abspath(found.path), found.stated.model_dump_json(exclude_unset=True))  # noqa: PTH100
        if place not in self._known:
            self._known.add(place)
            self.models.append(found)


def find_models(targets: Sequence[str], without: Path | None = None) -> Search:
    """Return the models that targets name.

    Args:
        targets: each a model's file or folder, a folder of models, the hub's cache, a pattern such as
            `models/**/*.pt`, or a list: CSV, TSV or JSON lines with a column `model` and, as columns, what
            `Feeding` may state.
        without: a folder that is not looked into: the one of the results.

    Raises:
        InputError: nothing is there, or a list that cannot be read.
        OptionError: a name that two models have.

    """
    search = Search(without=without)
    for target in targets:
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
    if _is_model_folder(folder):
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
        if _is_model_folder(path):
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


def _is_model_folder(folder: Path) -> bool:
    """Tell whether a folder is one model."""
    content = Content(folder)
    try:
        return any(one.folder and one.recognises(content) for one in formats())
    except DetrojanError:
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
