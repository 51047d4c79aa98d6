"""Tables of pixels: a row for each image, as in FER2013 and in Kaggle's digits."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.data.formats.base import Format, Place
from detrojan.data.formats.columns import LABELS, encoding_of
from detrojan.data.source import Array, Fetched, Source, check_bytes, choose_split
from detrojan.data.walking import first_bytes, is_file, open_plain
from detrojan.errors import DataError
from detrojan.quarantine import quarantined

_HEAD = 2**17
_PIXELS = ("pixels", "pixel")
#: FER2013 says where a row belongs in this column
_USAGE, _SPLITS = "usage", {"training": "train", "publictest": "val", "privatetest": "test"}
_LABELS = (*LABELS, "emotion")
#: values in a row, and rows, that are no longer a data set of small images
_MOST_VALUES, _MOST_ROWS = 200_000, 2_000_000
_FEWEST = 16


@dataclass(frozen=True)
class _Layout:
    """Where the pixels of a row stand: in one column as text, or in a column each."""

    text: int | None
    places: tuple[int, ...]
    label: int | None
    usage: int | None
    header: bool
    encoding: str


class PixelTable(Format):
    """A table with the pixels of an image in each row."""

    kind = "a table of pixels (CSV)"
    listed = (
        (".csv", "grey images, a row each: columns pixel0, pixel1, ... or one column pixels, as FER2013"),
    )
    precedence = 57

    def recognises(self, place: Place) -> bool:
        """Tell by the first lines of a file."""
        if place.is_folder or not is_file(place.path):
            return False
        return _layout(first_bytes(place.path, _HEAD)) is not None

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the splits that a column of usage names."""
        found: list[str] = quarantined(parse_usage, place.path)
        return tuple(found) or ("",)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Read the rows of a split; values are 0 to 255.

        Raises:
            DataError: rows of different lengths, other values, or no square number of them.

        """
        chosen, notes = choose_split(self.splits(place), split, str(place.path))
        found: dict[str, Any] = quarantined(parse_pixels, place.path, chosen)
        pixels: Array = found["pixels"]
        side = math.isqrt(pixels.shape[1])
        if side * side != pixels.shape[1]:
            raise DataError(
                f"{place.path}: expected square grey images, got {pixels.shape[1]} pixels in a row"
            )
        images = pixels.reshape(-1, side, side, 1)

        def fetch(index: Array) -> Fetched:
            return images[index], []

        labels = None if unlabelled or found["labels"] is None else np.asarray(found["labels"])
        return Source(
            where=str(place.path), count=len(images), fetch=fetch, labels=labels, notes=tuple(notes)
        )


def _layout(head: bytes) -> _Layout | None:
    """Return where the pixels stand in a table; None where it is none of pixels."""
    encoding = encoding_of(head)
    lines = head.decode(encoding, "replace").splitlines()[:2]
    if len(lines) < 2 or "\0" in lines[0]:
        return None
    first, second = list(csv.reader(lines))[:2] if all(lines) else ([], [])
    if not first or len(first) > _MOST_VALUES:
        return None
    names = [name.strip().lower() for name in first]
    label = next((names.index(name) for name in _LABELS if name in names), None)
    usage = names.index(_USAGE) if _USAGE in names else None
    text = next((names.index(name) for name in _PIXELS if name in names), None)
    if text is not None and text < len(second) and len(second[text].split()) >= _FEWEST:
        return _Layout(text, (), label, usage, True, encoding)
    header = not all(value.strip().isdecimal() for value in first)
    if header:
        places = [at for at, name in enumerate(names) if at not in {label, usage}]
        numbered = all(names[at].lstrip("pixel").lstrip("_").replace("x", "").isdecimal() for at in places)
    else:  # MNIST as CSV: the label stands first
        label, numbered = 0, math.isqrt(len(first) - 1) ** 2 == len(first) - 1
        places = list(range(1, len(first)))
    if len(places) < _FEWEST or not numbered:
        return None
    return _Layout(None, tuple(places), label, usage, header, encoding)


def _rows(path: Path) -> Any:
    """Yield the layout, then each row."""
    layout = _layout(first_bytes(path, _HEAD))
    if layout is None:
        raise DataError(f"{path}: expected a table of pixels")
    csv.field_size_limit(2**24)
    try:
        with open_plain(path) as raw, io.TextIOWrapper(raw, layout.encoding, "replace", newline="") as text:
            rows = csv.reader(text)
            if layout.header:
                next(rows, None)
            for number, row in enumerate(rows, 1):
                if number > _MOST_ROWS:
                    raise DataError(f"{path}: expected at most {_MOST_ROWS:,} rows")
                if row:
                    yield layout, number, row
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _split_of(layout: _Layout, row: list[str]) -> str:
    if layout.usage is None or layout.usage >= len(row):
        return ""
    return _SPLITS.get(row[layout.usage].strip().lower(), "")


def parse_usage(path: Path) -> list[str]:
    """Return the splits that rows belong to.

    Raises:
        DataError: the table is damaged.

    """
    return sorted({_split_of(layout, row) for layout, _, row in _rows(path)})


def parse_pixels(path: Path, split: str) -> dict[str, Any]:
    """Return `pixels` (N, values) uint8 and `labels` of a split; None for the latter where there are none.

    Raises:
        DataError: rows of different lengths, or values that are not whole numbers from 0 to 255.

    """
    pixels, labels, width = list[Array](), list[str](), 0
    for layout, number, row in _rows(path):
        if _split_of(layout, row) != split:
            continue
        try:
            texts = row[layout.text].split() if layout.text is not None else [row[at] for at in layout.places]
            values = np.array(texts, dtype=np.float64)
            labels += [] if layout.label is None else [row[layout.label].strip()]
        except (IndexError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: row {number}: expected pixels and a label: {error}") from error
        width = width or len(values)
        if not len(values):
            raise DataError(f"{path}: row {number}: expected pixels, got none")
        if len(values) != width or not ((values >= 0) & (values <= 255) & (values == values.round())).all():
            raise DataError(
                f"{path}: row {number}: expected {width} whole numbers from 0 to 255, "
                f"got {len(values)} from {values.min():g} to {values.max():g}"
            )
        check_bytes((len(pixels) + 1, width), 1, str(path))
        pixels.append(values.astype(np.uint8))
    if not pixels:
        raise DataError(f"{path}: expected images, got no row")
    whole = all(label.isdecimal() and len(label) < 10 for label in labels)
    told: list[Any] = [int(label) for label in labels] if whole else list(labels)
    return {"pixels": np.stack(pixels), "labels": told or None}
