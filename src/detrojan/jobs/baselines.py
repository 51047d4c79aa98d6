"""Known findings that are accepted: a file of them, and what it changes in a scan's report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, ValidationError

from detrojan.errors import DataError, OptionError
from detrojan.files import read_bounded, save_text
from detrojan.jobs.fleet.results import fleet_in, report_of
from detrojan.records import Label, Part, Words, wrong_places
from detrojan.report.problems import (
    Problem,
    finding_fingerprint,
    fingerprint,
    judged,
)
from detrojan.report.reading import load_report
from detrojan.report.rules import INCONCLUSIVE, RULES
from detrojan.report.schema import AcceptedFacts, BaselineFacts, FlaggedLabel, ScanReport

#: a baseline is not longer, in bytes
LARGEST = 2**24


class Entry(Part):
    """One known finding; the fingerprint is that of the other facts.

    `model` is compared with the end of a scanned model's path. `sha256` is of the file that the finding was
    accepted for; where `pinned`, it holds for this very file only. `expires` is the last day on which it
    holds, null for no end. `accepted` is the day on which it was written. Dates are written YYYY-MM-DD.
    """

    fingerprint: Words
    model: Words
    rule: Words
    label: Label | None
    source: Label | None
    offset: int
    sha256: Words
    pinned: bool = False
    reason: Words = ""
    expires: Words | None = None
    accepted: Words = ""

    def last_day(self) -> date | None:
        """Return the last day on which the entry holds, or None."""
        return None if self.expires is None else date.fromisoformat(self.expires)


class Baseline(Part):
    """What a baseline's file holds."""

    schema_: Literal["detrojan.baseline/1"] = Field(default="detrojan.baseline/1", alias="schema")
    entries: list[Entry]


@dataclass(frozen=True, kw_only=True)
class Known:
    """A baseline, and where it was read from.

    Attributes:
        baseline: the known findings.
        path: the file.
        sha256: of the file.

    """

    baseline: Baseline
    path: str
    sha256: str


def read_baseline(path: Path) -> Known:
    """Read a file of known findings.

    Raises:
        DataError: it cannot be read, does not keep to the schema, or an entry's fingerprint does not fit it.

    """
    try:
        content = read_bounded(path, LARGEST, DataError)
        baseline = Baseline.model_validate(json.loads(content), strict=True)
    except OSError as error:
        raise DataError(f"cannot read the baseline {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise DataError(f"{path}: not a valid baseline: {wrong_places(error, 'baseline')}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a baseline in JSON, but {error}") from error
    for place, entry in enumerate(baseline.entries):
        _check(entry, f"{path}: entry {place}")
    return Known(baseline=baseline, path=str(path), sha256=hashlib.sha256(content).hexdigest())


def _check(entry: Entry, where: str) -> None:
    rule = next((rule for rule in RULES if rule.id == entry.rule), None)
    if rule is None:
        raise DataError(
            f"{where}: expected a rule out of {', '.join(one.id for one in RULES)}, got {entry.rule}"
        )
    try:
        entry.last_day()
    except ValueError as error:
        raise DataError(f"{where}: expected a date as 2027-01-31, got {entry.expires!r:.40}") from error
    due = fingerprint(rule, entry.model, label=entry.label, source=entry.source, offset=entry.offset)
    if entry.fingerprint != due:
        raise DataError(
            f"{where}: expected the fingerprint {due} for this model, rule and label, "
            f"got {entry.fingerprint!r:.60}"
        )


def accept(report: ScanReport, known: Known, *, today: date | None = None) -> ScanReport:
    """Return a scan's report in which known findings are marked as accepted.

    Args:
        report: of the scan.
        known: the known findings.
        today: the day that expiry dates are compared with; None for the day it is now, in UTC.

    """
    today = today or datetime.now(UTC).date()
    own = [entry for entry in known.baseline.entries if _is_of(entry, report.model.path)]
    by_print = {entry.fingerprint: entry for entry in own}
    problems = judged(report).problems
    warnings, expired, granted = list[str](), 0, dict[str, AcceptedFacts]()
    for problem in problems:
        entry = by_print.get(problem.fingerprint)
        if entry is None:
            continue
        last = entry.last_day()
        same = entry.sha256 == report.model.sha256
        name = _name(problem)
        if last is not None and last < today:
            expired += 1
            warnings.append(f"{known.path}: {name} was accepted until {entry.expires}, and counts again")
        elif entry.pinned and not same:
            warnings.append(
                f"{known.path}: {name} was accepted for another file only (SHA-256 {entry.sha256[:12]}...), "
                "and counts"
            )
        else:
            granted[entry.fingerprint] = AcceptedFacts(reason=entry.reason, expires=entry.expires)
            if not same:
                warnings.append(
                    f"{known.path}: {name} was accepted for another file of this name "
                    f"(SHA-256 {entry.sha256[:12]}...)"
                )
    found = {problem.fingerprint for problem in problems}
    facts = BaselineFacts(
        path=known.path,
        sha256=known.sha256,
        accepted=len(granted),
        new=len(problems) - len(granted),
        expired=expired,
        absent=[entry.fingerprint for entry in own if entry.fingerprint not in found],
        verdict=next(
            (granted.get(problem.fingerprint) for problem in problems if _is_verdict(problem)), None
        ),
    )
    return report.model_copy(
        update={
            "findings": [_marked(finding, report, granted) for finding in report.findings],
            "baseline": facts,
            "warnings": [*report.warnings, *warnings],
        }
    )


def _is_verdict(problem: Problem) -> bool:
    """Return whether a problem is of the verdict alone, without a named label or a shift."""
    return problem.label is None and not problem.offset


def _marked(finding: FlaggedLabel, report: ScanReport, granted: dict[str, AcceptedFacts]) -> FlaggedLabel:
    if report.verdict != "backdoored":  # nothing was found that could be accepted
        return finding
    return finding.model_copy(
        update={"accepted": granted.get(finding_fingerprint(finding, report.model.path))}
    )


def _name(problem: Problem) -> str:
    if problem.label is not None:
        return f"{problem.rule.id} of label {problem.label}"
    return f"{problem.rule.id} of offset {problem.offset}" if problem.offset else problem.rule.id


def _is_of(entry: Entry, path: str) -> bool:
    """Return whether an entry's model is the one at `path`: the entry's path is the end of it."""
    whole = path if "://" in path else Path(path).absolute().as_posix()
    return (
        PurePosixPath(whole).parts[-len(PurePosixPath(entry.model).parts) :]
        == PurePosixPath(entry.model).parts
    )


def write_baseline(
    path: Path,
    reports: Sequence[Path],
    *,
    reason: str = "",
    expires: str | None = None,
    pinned: bool = False,
    inconclusive: bool = False,
) -> tuple[int, int]:
    """Accept the findings of scans: add them to a file, which is made where it is not there.

    An entry that is there already stays as it is, with its reason and its date.

    Args:
        path: the baseline.
        reports: the scans' JSON, or the `fleet.json` of fleets.
        reason: why they are accepted.
        expires: the last day on which they are, YYYY-MM-DD; None for no end.
        pinned: whether they are accepted for the scanned files only, and not for others of their names.
        inconclusive: whether inconclusive scans are accepted too.

    Returns:
        How many entries are new, and how many there are.

    Raises:
        DataError: a report that cannot be read or is none of a scan; a baseline that cannot be read.
        OptionError: no report, or no date.
        InputError: the file cannot be written.

    """
    if not reports:
        raise OptionError("expected a scan's JSON or more, got none")
    if expires is not None:
        try:
            date.fromisoformat(expires)
        except ValueError as error:
            raise OptionError(f"expected a date as 2027-01-31, got {expires!r:.40}") from error
    kept = list(read_baseline(path).baseline.entries) if path.exists() else []
    seen = {(entry.fingerprint, entry.model) for entry in kept}
    before, today = len(kept), datetime.now(UTC).date().isoformat()
    for file in reports:
        for entry in _entries(file, path):
            if (entry.rule != INCONCLUSIVE.id or inconclusive) and (
                entry.fingerprint,
                entry.model,
            ) not in seen:
                seen.add((entry.fingerprint, entry.model))
                stated = {"reason": reason, "expires": expires, "pinned": pinned, "accepted": today}
                kept.append(entry.model_copy(update=stated))
    kept.sort(key=lambda entry: (entry.model, entry.rule, entry.label or 0, entry.fingerprint))
    save_text(path, json.dumps(_values(Baseline(entries=kept)), indent=2) + "\n")
    return len(kept) - before, len(kept)


def _values(baseline: Baseline) -> dict[str, Any]:
    return baseline.model_dump(mode="json", by_alias=True)


def _entries(file: Path, baseline: Path) -> Iterator[Entry]:
    """Yield an entry for each problem of a scan's report, or of the reports of a fleet."""
    for report in _reports(file):
        model = _portable(report.model.path, baseline)
        if not model:
            raise DataError(f"{file}: expected a scan of a model in a file: the report names none")
        for problem in judged(report).problems:
            yield Entry(
                fingerprint=problem.fingerprint,
                model=model,
                rule=problem.rule.id,
                label=problem.label,
                source=problem.source,
                offset=problem.offset,
                sha256=report.model.sha256,
            )


def _reports(file: Path) -> Iterator[ScanReport]:
    """Yield the report in a file; of a fleet's record, those of its models."""
    if (fleet := fleet_in(file)) is not None:
        found = (report_of(model, file.parent) for model in fleet.models)
        yield from (report for report in found if report is not None)
        return
    report = load_report(file)
    if not isinstance(report, ScanReport):
        raise DataError(f"{file}: expected a scan's JSON, got {report.schema_}")
    yield report


def _portable(path: str, baseline: Path) -> str:
    """Return a model's path as it holds on other machines: below the baseline's folder, else its end."""
    pure = PurePosixPath(path.replace("\\", "/"))
    if "://" in path:
        return pure.name
    if pure.is_absolute():
        home = PurePosixPath(baseline.absolute().parent.as_posix())
        pure = pure.relative_to(home) if pure.is_relative_to(home) else PurePosixPath(*pure.parts[-2:])
    return PurePosixPath(*(part for part in pure.parts if part not in {"..", "/"})).as_posix() if path else ""
