"""The results file: one JSON object per line and cell, only ever added to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detrojan.errors import DataError, InputError

SCHEMA = "detrojan.bench/1"
Row = dict[str, Any]
_NEEDED = ("data", "network", "attack", "defence", "seed", "profile", "status", "cell")


def read_rows(path: str | Path) -> list[Row]:
    """Return the rows of a results file, of each cell the last; a line cut off at the end is left out.

    Raises:
        InputError: the file cannot be read.
        DataError: a line that is no row.

    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the results {path} cannot be read: {error}") from error
    rows: dict[tuple[Any, ...], Row] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines[:-1], 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is no JSON: {error}") from error
        if not isinstance(row, dict) or row.get("schema") != SCHEMA:
            got = row.get("schema") if isinstance(row, dict) else type(row).__name__
            raise DataError(f"{path}: line {number}: expected the schema {SCHEMA}, got {got!r:.60}")
        missing = [name for name in _NEEDED if name not in row]
        if missing or not all(isinstance(row.get(name, {}), dict) for name in ("figures", "provenance")):
            raise DataError(
                f"{path}: line {number}: expected {missing[0] if missing else 'figures'} in a row"
            )
        rows[_place(row)] = row
    return list(rows.values())


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
            if not content[whole:].startswith(b'{"schema": "' + SCHEMA.encode()[: len(content) - whole - 12]):
                raise DataError(f"{path} is no results file of the bench, and is not written to")
            os.truncate(path, whole)
    except OSError as error:
        raise InputError(f"cannot write results to {path}: {error.strerror or error}") from error
    return read_rows(path)


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
