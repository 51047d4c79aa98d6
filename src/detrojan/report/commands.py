"""The command lines that follow a scan: made of the one that made the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from detrojan.report.outputs.base import outputs
from detrojan.report.schema import ScanReport

#: what a scan's command line says of the scan alone, by whether a value follows
SCANS_OWN = {
    "--method": True,
    "--budget": True,
    "--set": True,
    "--triggers": True,
    "--labels": True,
    "--baseline": True,
    "--format": True,
    "--checkpoint": True,
    "--resume": False,
    "--processes": True,
    "--verbose": False,
    "-v": False,
    "--debug": False,
}


def repair_command(report: ScanReport, *, blind: bool = False) -> list[str]:
    """Return the command that repairs a copy of the scanned model.

    Args:
        report: of the scan; its findings are used where its JSON was written.
        blind: whether no target is known.

    """
    words = ["detrojan", "repair", *_kept(report)]
    found = option_value(report.run.command or [], "--json")
    if blind:
        words += ["--blind", "--method", "fine_pruning"]
    elif found:
        words += ["--findings", found]
    path = PurePath(report.model.path or "MODEL")
    return [*words, "--out", str(path.with_name(f"{path.stem}-repaired{path.suffix}"))]


def default_scan_command(report: ScanReport) -> list[str]:
    """Return the command that scans the same model with the default method."""
    return ["detrojan", "scan", *_kept(report)]


def guard_command(report: ScanReport) -> list[str]:
    """Return the command that sets up a guard for the scanned model."""
    return ["detrojan", "guard", "calibrate", *_kept(report), "--out", "guard"]


def _kept(report: ScanReport) -> list[str]:
    """Return the words that say which model is judged on which data, and how both are read."""
    command = report.run.command or []
    if command[1:2] != ["scan"]:
        return [report.model.path or "MODEL", "--data", "DATA"]
    return without(command[2:], SCANS_OWN | dict.fromkeys([f"--{name}" for name in outputs()], True))


def without(words: Sequence[str], dropped: dict[str, bool]) -> list[str]:
    """Return the words of a call without some options; each is named with whether a value follows it."""
    kept, skip = list[str](), False
    for word in words:
        name, _, value = word.partition("=")
        if skip:
            skip = False
        elif name in dropped:
            skip = dropped[name] and not value
        else:
            kept.append(word)
    return kept


def option_value(words: Sequence[str], name: str) -> str:
    """Return the value of an option, or an empty text."""
    for place, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name:
            return "".join(words[place + 1 : place + 2])
    return ""
