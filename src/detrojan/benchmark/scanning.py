"""A scan's result in the cache: several repairs start from one scan."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from detrojan.findings import Finding, ScanResult
from detrojan.triggers.base import Trigger

_VALUES = "scan.json"
_NUMBERS = ("anomaly_index", "mask_l1", "attack_success")


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
        record = vars(replace(finding, trigger=None)) | {"trigger": finding.trigger is not None}
        findings.append({name: _plain(value) for name, value in record.items()})
    values = {**vars(result), "findings": findings}
    (place / _VALUES).write_text(json.dumps(values, default=str), "utf-8")


def read_scan(place: Path) -> ScanResult:
    """Read what `write_scan` has written.

    Raises:
        OSError, ValueError, KeyError, DataError: it is damaged.

    """
    values = json.loads((place / _VALUES).read_text("utf-8"))
    findings = []
    for record in values.pop("findings"):
        path = place / f"trigger_{record['label']}.safetensors"
        trigger = Trigger.load(path) if record.pop("trigger") else None
        numbers: dict[str, Any] = {name: _number(record.pop(name)) for name in _NUMBERS}
        findings.append(Finding(**numbers, **record, trigger=trigger))
    warnings = tuple(values.pop("warnings"))
    return ScanResult(**values, warnings=warnings, findings=tuple(findings))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
