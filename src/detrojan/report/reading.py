"""Reads reports of any kind and of any version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from detrojan.errors import DataError
from detrojan.files import read_bounded
from detrojan.records import wrong_places
from detrojan.report.first_version import FIRST, as_current
from detrojan.report.schema import AnyReport, EvaluateReport, RepairReport, ScanReport

#: a report of 1283 labels has 0.3 MB; nothing that we write comes near this
LARGEST = 100 * 2**20
_KINDS: dict[str, type[AnyReport]] = {
    "detrojan.scan/2": ScanReport,
    "detrojan.repair/2": RepairReport,
    "detrojan.evaluate/2": EvaluateReport,
}


def load_report(path: str | Path) -> AnyReport:
    """Read a report of any kind; its `schema` says which. One of an older version is brought to this one.

    Raises:
        DataError: the file cannot be read, is not JSON, or does not keep to its schema; the
            message names the first places that are wrong.

    """
    value = _json_object(Path(path))
    kind = value.get("schema")
    now = _KINDS.get(kind) if isinstance(kind, str) else None
    then = FIRST.get(kind) if isinstance(kind, str) else None
    try:
        if now is not None:
            return now.model_validate(value, strict=True)
        if then is not None:
            return as_current(then.model_validate(value, strict=True))
    except ValidationError as error:
        raise DataError(f"{path}: not a valid {kind} report: {wrong_places(error, 'report')}") from error
    known = ", ".join([*_KINDS, *FIRST])
    raise DataError(f"{path}: expected a report with a schema of {known}, got {kind!r:.60}")


def _json_object(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"it holds {constant}, which is not JSON")

    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise DataError(f"{path}: expected a report of at most {LARGEST >> 20} MB, got {size >> 20} MB")
        value = json.loads(read_bounded(path, LARGEST, DataError), parse_constant=refuse)
    except OSError as error:
        raise DataError(f"cannot read the report {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a report in JSON, but {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a report, a JSON object, got {type(value).__name__}")
    return value
