"""Hugging Face's data sets of pictures: parquet files, and folders that `save_to_disk` wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from detrojan.data.formats.base import Format, Place
from detrojan.data.source import LABEL_NAMES, Encoded, Source, choose_split, split_name
from detrojan.data.walking import is_file, open_plain
from detrojan.errors import DataError
from detrojan.extras import require
from detrojan.quarantine import quarantined

IMAGES = ("image", "img", "images", "picture", "photo", "pixel_values")
LABELS = (*LABEL_NAMES, "fine_label", "class", "category")
_MOST_JSON, _MOST_GROUP, _MOST_ROWS = 2**20, 2 * 2**30, 50_000_000


class HuggingFaceData(Format):
    """A parquet file, or a folder of a Hugging Face data set."""

    kind = "a Hugging Face data set or parquet file"
    listed = (
        (".parquet", "a column of pictures and one of labels: a file, or a folder with data/*.parquet"),
        ("save_to_disk", "the folder that Hugging Face's datasets wrote"),
    )
    precedence = 45

    def recognises(self, place: Place) -> bool:
        """Tell whether a file is parquet, or a folder holds such files or arrow files with their state."""
        return bool(parts(place.path)) if place.is_folder else place.head.startswith(b"PAR1")

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that files or folders are named after."""
        return tuple(parts(place.path)) if place.is_folder else ("",)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Look into the files of a split."""
        return read_hugging_face(place.path, split, unlabelled=unlabelled)


def parts(folder: Path) -> dict[str, list[Path]]:
    """Return the files of a data set by split, "" where nothing names one; none for other folders."""
    if is_file(folder / "dataset_dict.json") or is_file(folder / "state.json"):
        inside = [folder] if is_file(folder / "state.json") else sorted(folder.glob("*/"))
        saved = {place: _saved(place) for place in inside if is_file(place / "state.json")}
        if len(saved) == 1 and folder in saved:
            return {"": saved[folder]}
        return {_named(place.name) or place.name: files for place, files in saved.items()}
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        if not path.name.startswith("."):
            found.setdefault(_named(re.split(r"[-_.]", path.name)[0]), []).append(path)
    return found


def _named(word: str) -> str:
    try:
        return split_name(word)
    except DataError:
        return ""


def _saved(folder: Path) -> list[Path]:
    """Return the arrow files of a folder that `save_to_disk` wrote."""
    try:
        with open_plain(folder / "state.json") as stream:
            state = json.loads(stream.read(_MOST_JSON))
        names = [str(item["filename"]) for item in state["_data_files"]]
        picked = state.get("_indices_files")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{folder / 'state.json'}: expected the state of a saved data set: {error!r}"
        ) from error
    if picked:
        raise DataError(
            f"{folder}: expected all rows, got rows that were picked; save flatten_indices() of them"
        )
    if any(Path(name).name != name for name in names):
        raise DataError(f"{folder / 'state.json'}: expected files within the folder, got {names!r:.120}")
    return [folder / name for name in names]


def read_hugging_face(path: Path, split: str | None = None, *, unlabelled: bool = False) -> Source:
    """Look into a parquet file, or the folder of a data set.

    Pictures are read as they are needed: of a parquet file one group of rows at a time.

    Args:
        path: the file, or the folder.
        split: which split, where there are some.
        unlabelled: leave the labels out.

    Raises:
        DataError: damaged, no column of pictures, or no such split.
        MissingExtraError: pyarrow is not installed.

    """
    found = {"": [path]} if is_file(path) else parts(path)
    chosen, notes = choose_split(found, split, str(path))
    files = found[chosen]
    heads = [quarantined(parse_head, file) for file in files]
    counts = [head["count"] for head in heads]
    ends = np.cumsum([0, *counts])
    label, names = heads[0]["label"], heads[0]["names"]
    labels = None
    if label is not None and not unlabelled:
        values = [quarantined(parse_labels, file, label) for file in files]
        labels = np.asarray([value for some in values for value in some])
        notes.append(f"labels from the column {label}")

    def pictures(index: NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        shard = np.searchsorted(ends, index, side="right") - 1
        for number, file in enumerate(files):
            places = np.flatnonzero(shard == number)
            rows = (index[places] - ends[number]).tolist()
            for at, content in _contents(file, heads[number], rows):
                yield int(places[at]), Encoded(f"{file}: image {rows[at]}", content)

    return Source(
        where=str(path),
        count=int(ends[-1]),
        pictures=pictures,
        labels=labels,
        class_names=() if labels is None else tuple(names),
        notes=tuple(notes),
        used=tuple(files),
    )


def _contents(file: Path, head: dict[str, Any], rows: list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the pictures of some rows, each with its place among them, group after group."""
    ends = np.cumsum([0, *head["groups"]])
    group = np.searchsorted(ends, rows, side="right") - 1
    for number in sorted(set(group.tolist())):
        places = np.flatnonzero(group == number).tolist()
        inside = [rows[place] - int(ends[number]) for place in places]
        yield from zip(places, quarantined(parse_pictures, file, head["image"], number, inside), strict=True)


def parse_head(path: Path) -> dict[str, Any]:
    """Return what a file says of itself.

    Returns:
        `count` of rows; `groups`, how many rows each has; `image` and `label`, names of columns, the latter
        None where there is none; `names` of the classes.

    Raises:
        DataError: damaged, or no column of pictures.

    """
    with _opened(path) as held:
        schema, groups = held.schema, held.groups()
        features = _features(schema)
        image = _image_column(schema, features)
        if image is None:
            raise DataError(_no_pictures(path, schema))
        classes = {name: kind["names"] for name, kind in features.items() if _is_classes(kind)}
        label = next((name for name in (*LABELS, *classes) if name in schema.names), None)
        return {
            "count": sum(groups),
            "groups": groups,
            "image": image,
            "label": label,
            "names": [str(name) for name in classes.get(label or "", [])],
        }


def parse_labels(path: Path, column: str) -> list[Any]:
    """Return a column of labels.

    Raises:
        DataError: damaged, or a row without one.

    """
    with _opened(path) as held:
        values: list[Any] = [value for piece in held.column(column) for value in piece.to_pylist()]
    if any(not isinstance(value, int | str) for value in values):
        raise DataError(f"{path}: expected labels in the column {column} as numbers or text, got others")
    return values


def parse_pictures(path: Path, column: str, group: int, rows: list[int]) -> list[bytes]:
    """Return the compressed pictures of some rows of one group; empty where a row holds none.

    Raises:
        DataError: damaged, or a group that claims more than 2 GiB.

    """
    with _opened(path) as held:
        cells = held.group(group, column).take(rows).to_pylist()
    found = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
    return [content if isinstance(content, bytes) else b"" for content in found]


class _opened:  # noqa: N801 - used as a function
    """A parquet or an arrow file, as groups of rows; whatever pyarrow raises becomes an error of ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrow = require("pyarrow", extra="datasets", what="Hugging Face data sets")
        self.is_parquet = path.suffix != ".arrow"

    def __enter__(self) -> Self:
        try:
            if self.is_parquet:
                parquet = require("pyarrow.parquet", extra="datasets", what="parquet files")
                self.file = parquet.ParquetFile(self.path, memory_map=True)
                self.schema = self.file.schema_arrow
            else:
                self.file = self.arrow.ipc.open_stream(self.arrow.memory_map(str(self.path)))
                self.schema = self.file.schema
        except (self.arrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (self.arrow.ArrowException, OSError, ValueError, KeyError, MemoryError)):
            raise DataError(f"{self.path}: the file is truncated or damaged: {error}") from error

    def groups(self) -> list[int]:
        """Return how many rows each group has."""
        if self.is_parquet:
            held = self.file.metadata
            return [held.row_group(number).num_rows for number in range(held.num_row_groups)]
        return [batch.num_rows for batch in self.file]

    def column(self, name: str) -> Any:
        """Return the pieces of a column of all rows."""
        if self.is_parquet:
            return self.file.read([name]).column(0).chunks
        return [batch.column(batch.schema.get_field_index(name)) for batch in self.file]

    def group(self, number: int, name: str) -> Any:
        """Return a column of one group."""
        if not self.is_parquet:
            batch = next(batch for at, batch in enumerate(self.file) if at == number)
            return batch.column(batch.schema.get_field_index(name))
        size = self.file.metadata.row_group(number).total_byte_size
        if size > _MOST_GROUP:
            raise DataError(
                f"{self.path}: expected groups of rows of at most 2 GiB, got {size / 2**30:.3g} GiB"
            )
        return self.file.read_row_group(number, [name]).column(0).combine_chunks()


def _no_pictures(path: Path, schema: Any) -> str:
    """Return what is wrong where no column holds pictures: one with their name may hold their numbers."""
    said = f"{path}: expected a column of pictures, got {', '.join(schema.names)[:200]}"
    named = next((name for name in schema.names if name in IMAGES), None)
    if named is None:
        return said
    return (
        f"{said}; {named} holds {str(schema.field(named).type)[:80]}, and "
        f"cast_column({named!r}, datasets.Image()) makes pictures of arrays before the set is saved"
    )


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's `datasets` notes of each column, or nothing."""
    try:
        held = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return (
        {name: kind for name, kind in held.items() if isinstance(kind, dict)}
        if isinstance(held, dict)
        else {}
    )


def _is_classes(kind: dict[str, Any]) -> bool:
    return kind.get("_type") == "ClassLabel" and isinstance(kind.get("names"), list)


def _image_column(schema: Any, features: dict[str, dict[str, Any]]) -> str | None:
    """Return the column that holds pictures: said to, a struct with bytes, or the only plain bytes."""
    kinds = {field.name: str(field.type) for field in schema}
    said = [name for name, kind in features.items() if kind.get("_type") == "Image" and name in kinds]
    structs = [name for name, kind in kinds.items() if kind.startswith("struct<") and "bytes: binary" in kind]
    held = [name for name, kind in kinds.items() if kind in {"binary", "large_binary"}]
    plain = [name for name in IMAGES if name in held]
    only = held if len(held) == 1 else []
    return next(iter([*said, *structs, *plain, *only]), None)
