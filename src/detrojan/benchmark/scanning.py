"""A scan's result in the cache: several repairs start from one scan."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from detrojan.findings import Criterion, Finding, ScanResult, Unit
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger

_VALUES = "scan.json"


def write_scan(result: ScanResult, place: Path) -> None:
    """Write a result, its triggers beside it.

    Args:
        result: of a scan.
        place: an existing folder.

    """
    findings = []
    for finding in result.findings:
        if finding.trigger is not None:
            finding.trigger.save(place / f"trigger_{finding.label}.safetensors")
        record = asdict(replace(finding, trigger=None)) | {"trigger": finding.trigger is not None}
        findings.append(record)
    criterion = None if result.criterion is None else asdict(result.criterion)
    values = {**vars(result), "findings": findings, "criterion": criterion}
    (place / _VALUES).write_text(json.dumps(values, default=str), "utf-8")


def read_scan(place: Path) -> ScanResult:
    """Read what `write_scan` has written.

    Raises:
        OSError, ValueError, KeyError, DataError: it is damaged, or of another version.

    """
    try:
        return _read(json.loads((place / _VALUES).read_text("utf-8")), place)
    except TypeError as error:  # a field that is missing, or that nobody knows
        raise ValueError(f"{place}: {error}") from error


def _read(values: dict[str, Any], place: Path) -> ScanResult:
    findings = []
    for record in values.pop("findings"):
        path = place / f"trigger_{record['label']}.safetensors"
        trigger = Trigger.load(path) if record.pop("trigger") else None
        aim, unit = Aim(**record.pop("aim")), _unit(record.pop("unit"))
        findings.append(Finding(**record, aim=aim, unit=unit, trigger=trigger))
    warnings, decided = tuple(values.pop("warnings")), values.pop("criterion")
    criterion = None if decided is None else Criterion(**decided | {"unit": Unit(**decided["unit"])})
    return ScanResult(**values, criterion=criterion, warnings=warnings, findings=tuple(findings))


def _unit(record: dict[str, str] | None) -> Unit | None:
    return None if record is None else Unit(**record)
