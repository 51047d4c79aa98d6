"""A fleet's record and its reports, read from the disk, as the outputs for other tools take them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from detrojan.errors import DataError
from detrojan.files import read_bounded
from detrojan.records import wrong_places
from detrojan.report.problems import NotJudged, Result
from detrojan.report.reading import load_report
from detrojan.report.records.fleet import FleetModel, FleetRecord
from detrojan.report.schema import ScanReport

_LARGEST = 1 << 30
_SCHEMA = "detrojan.fleet/1"


def results_of(record: FleetRecord, out: Path) -> Iterator[Result]:
    """Yield the report of each scanned model, and why each other one could not be judged.

    Args:
        record: of the fleet.
        out: the folder that the record lies in.

    Raises:
        DataError: a report that cannot be read, or is no scan's.

    """
    for model in record.models:
        report = report_of(model, out)
        yield _not_judged(model) if report is None else report


def read_record(path: Path) -> FleetRecord | None:
    """Return the record of an earlier call; None where there is none.

    Raises:
        DataError: it is no record of a fleet.

    """
    if not path.exists():
        return None
    try:
        return _record(json.loads(read_bounded(path, _LARGEST, DataError)), path)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected the record of a fleet: {error}") from error


def fleet_in(path: Path) -> FleetRecord | None:
    """Return the record of a fleet that a file holds; None where it holds something else, or nothing.

    Raises:
        DataError: it says that it is a fleet's record, and is none.

    """
    try:
        value = json.loads(read_bounded(path, _LARGEST, DataError))
    except (OSError, ValueError, RecursionError, DataError):  # who reads it as what it is says why
        return None
    is_fleet = isinstance(value, dict) and value.get("schema") == _SCHEMA
    return _record(value, path) if is_fleet else None


def _record(value: object, path: Path) -> FleetRecord:
    try:
        return FleetRecord.model_validate(value, strict=True)
    except ValidationError as error:
        raise DataError(f"{path}: expected the record of a fleet: {wrong_places(error)}") from error


def report_of(model: FleetModel, out: Path) -> ScanReport | None:
    """Return the report of a model, or None where it has none.

    A duplicate has the report of its content, under its own path. A version in a registry is called by its
    name there, which is the same on every machine.

    Args:
        model: of the fleet.
        out: the folder that the fleet's record lies in.

    Raises:
        DataError: the report cannot be read, or is no scan's.

    """
    if model.report is None:
        return None
    report = load_report(out / model.report)
    if not isinstance(report, ScanReport):
        raise DataError(f"{out / model.report}: expected a scan's report, got {report.schema_}")
    facts = report.model.model_copy(update={"path": _path(model)})
    return report.model_copy(update={"model": facts})


def _path(model: FleetModel) -> str:
    return model.name if model.registered else model.path


def _not_judged(model: FleetModel) -> NotJudged:
    return NotJudged(
        path=_path(model),
        error=model.reason or "not judged",
        unsafe=model.category == "unsafe",
        started=model.when or "",
        seconds=model.seconds or 0.0,
    )
