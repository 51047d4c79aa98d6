"""The command that scans one model of a fleet by itself: its report names it, so that it can be repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detrojan.jobs.fleet.feeding import Feeding
from detrojan.jobs.fleet.policy import ScanPart


def scan_command(model: Path, feeding: Feeding, scan: ScanPart, report: Path) -> tuple[str, ...]:
    """Return the words of the command that does the same scan.

    Args:
        model: the file or folder.
        feeding: how it is built and fed, and on what it is judged.
        scan: the method, its settings, its seed and its limit.
        report: the JSON that the command writes.

    """
    words = ["detrojan", "scan", str(model), *_fed(feeding), "--method", scan.method]
    for setting in scan.set:
        words += ["--set", setting]
    if scan.budget is not None:
        words += ["--budget", repr(scan.budget)]
    return (*words, "--seed", str(scan.seed), "--json", str(report))


def _fed(feeding: Feeding) -> Iterator[str]:
    """Yield the options that state what a policy or a row states."""
    for name in sorted({"data", *feeding.model_fields_set}):
        value = getattr(feeding, name)
        if value is None or value is False:
            continue
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield _written(name, value)


def _written(name: str, value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    between = {"input_range": "..", "data_range": "..", "mean": ",", "std": ","}.get(name, "x")
    return between.join(f"{number:g}" if float(f"{number:g}") == number else repr(number) for number in value)
