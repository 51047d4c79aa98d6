"""A fleet's results as the outputs for other tools take them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detrojan.errors import DataError
from detrojan.report.problems import NotJudged, Result
from detrojan.report.reading import load_report
from detrojan.report.records.fleet import FleetModel, FleetRecord
from detrojan.report.schema import ScanReport


def results_of(record: FleetRecord, out: Path) -> Iterator[Result]:
    """Yield the report of each scanned model, and why each other one could not be judged.

    A duplicate has the report of its content, under its own path.

    Args:
        record: of the fleet.
        out: the folder that the record lies in.

    Raises:
        DataError: a report that cannot be read, or is no scan's.

    """
    for model in record.models:
        if model.report is None:
            yield _not_judged(model)
            continue
        report = load_report(out / model.report)
        if not isinstance(report, ScanReport):
            raise DataError(f"{out / model.report}: expected a scan's report, got {report.schema_}")
        facts = report.model.model_copy(update={"path": model.path})
        yield report.model_copy(update={"model": facts})


def _not_judged(model: FleetModel) -> NotJudged:
    return NotJudged(
        path=model.path,
        error=model.reason or "not judged",
        unsafe=model.category == "unsafe",
        started=model.when or "",
        seconds=model.seconds or 0.0,
    )
