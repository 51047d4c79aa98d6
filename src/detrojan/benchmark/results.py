"""The results file: one JSON object per line and cell, only ever added to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from detrojan.errors import DataError, InputError
from detrojan.files import replacing

SCHEMA = "detrojan.bench/1"
Row = dict[str, Any]
#: how each line of ours begins
_HEAD = f'{{"schema": "{SCHEMA}"'
_TEXTS = ("data", "network", "attack", "defence", "profile", "status", "cell")
_MOST_DIGITS = 300
#: what a row may leave out or leave empty, and of what type it is otherwise
_PARTS = {
    "plan", "sizes", "about", "settings", "reference", "figures", "subject", "twin", "seconds", "details",
    "provenance",
}  # fmt: skip


def read_rows(path: str | Path) -> list[Row]:
    """Return the rows of a results file, of each cell the last; a line cut off at the end is left out.

    Raises:
        InputError: the file cannot be read.
        DataError: a line that is no row.

    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"the results {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected JSON lines of the bench, got a file that is no text") from error
    rows: dict[tuple[Any, ...], Row] = {}
    *lines, last = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _row(line, f"{path}: line {number}")
            rows[_place(row)] = row
    if not _may_begin_a_row(last):
        row = _row(last, f"{path}: line {len(lines) + 1}")
        rows[_place(row)] = row
    return list(rows.values())


def _may_begin_a_row(text: str) -> bool:
    """Whether a line without an end may be one of ours that was cut off (or nothing at all)."""
    if not text.startswith(_HEAD):
        return _HEAD.startswith(text)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True
    return False


def _row(line: str, where: str) -> Row:
    """Return the row that a line holds, its types checked."""
    try:
        row = json.loads(line, parse_constant=_no_number, parse_float=_number, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}") from error
    if not isinstance(row, dict) or row.get("schema") != SCHEMA:
        got = row.get("schema") if isinstance(row, dict) else type(row).__name__
        raise DataError(f"{where}: expected the schema {SCHEMA}, got {got!r:.60}")
    wrong = [name for name in _TEXTS if not isinstance(row.get(name), str)]
    if wrong:
        raise DataError(f"{where}: expected the text {wrong[0]} in a row, got {row.get(wrong[0])!r:.60}")
    if not isinstance(row.get("seed"), int):
        raise DataError(f"{where}: expected the whole number seed in a row, got {row.get('seed')!r:.60}")
    wrong = [name for name in sorted(_PARTS) if not isinstance(row.get(name) or {}, dict)]
    if wrong:
        raise DataError(f"{where}: expected {wrong[0]} to be an object in a row, got {row[wrong[0]]!r:.60}")
    spent = (row.get("seconds") or {}).values()
    if not all(isinstance(value, int | float) for value in spent):
        raise DataError(f"{where}: expected numbers in seconds, got {row['seconds']!r:.60}")
    return row


def _no_number(text: str) -> float:
    raise ValueError(f"expected finite numbers, got {text:.30}")


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _whole(text: str) -> float:
    # a figure is computed with as a float, which has no room for more digits than these
    return int(text) if len(text) <= _MOST_DIGITS else _no_number(text)


def _place(row: Row) -> tuple[Any, ...]:
    plan = row.get("plan")
    name = plan.get("name") if isinstance(plan, dict) else None
    return (name, *(str(row[part]) for part in ("profile", "data", "network", "attack", "defence", "seed")))


def start_rows(path: Path) -> list[Row]:
    """Return the rows there are, ready for more: a line that was cut off is removed.

    Raises:
        InputError: the file cannot be read or written.
        DataError: it is no results file.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch()
            return []
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            # judged before anything is removed: it may be no results file at all
            cut, head = content[whole:], _HEAD.encode()
            if not (cut.startswith(head) or head.startswith(cut)):
                raise DataError(f"{path} is no results file of the bench, and is not written to")
            os.truncate(path, whole)
    except OSError as error:
        raise InputError(f"cannot write results to {path}: {error.strerror or error}") from error
    return read_rows(path)


def order_rows(path: Path, cells: Sequence[str]) -> None:
    """Bring the rows of some cells into an order; the lines of all others stay where they are.

    Args:
        path: the results.
        cells: the cells' digests in their order.

    Raises:
        InputError: the file cannot be written.

    """
    places = {cell: number for number, cell in enumerate(cells)}
    try:
        lines = path.read_text("utf-8").splitlines(keepends=True)
        known = {number: json.loads(line)["cell"] for number, line in enumerate(lines) if line.strip()}
        ours = [number for number, cell in known.items() if cell in places]
        wanted = sorted(ours, key=lambda number: places[known[number]])
        if wanted == ours:
            return
        ordered = list(lines)
        for number, source in zip(ours, wanted, strict=True):
            ordered[number] = lines[source]
        with replacing(path) as scratch:
            scratch.write_text("".join(ordered), "utf-8")
    except OSError as error:
        raise InputError(f"cannot write results to {path}: {error.strerror or error}") from error


def add_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows at the end; each is on the disk when this returns.

    Raises:
        InputError: the file cannot be written.

    """
    try:
        with path.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({"schema": SCHEMA, **_finite(row)}, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"cannot write results to {path}: {error.strerror or error}") from error


def _finite(value: Any) -> Any:
    """Return plain JSON values; what is no finite number becomes None."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
