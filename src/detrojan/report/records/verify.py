"""The record of a verification: is a file the one that a report is about, and what says a new scan?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from rich.console import RenderableType
from rich.text import Text

from detrojan.records import Count, Label, Number, Part, Words
from detrojan.report.records.base import Record
from detrojan.words import number, plural, printable


class Compared(Part):
    """A digest as the report has it, and as it is now; `now` is null where nobody looked."""

    path: Words
    reported: Words
    now: Words | None
    same: bool | None


class Figure(Part):
    """One figure of one label, as it was and as it is now."""

    label: Label
    name: Words
    reported: Number
    now: Number


class Repeated(Part):
    """What a new scan says; `figures` are those that differ, `compared` how many were compared."""

    verdict: Words
    targets: list[Label]
    same_verdict: bool
    compared: Count
    figures: list[Figure]


class VerifyRecord(Record):
    """Whether a file is the one judged, by which version and method, when; and whether that can be repeated.

    A report of a repair is about the repaired file; `delivered` says that the file is the one from before.
    `same` says that all that was compared is the same: the model, the data where they were looked at, and
    verdict and targets of a new scan where one was made. `differences` says what stands in the way of the
    same figures.
    """

    schema_: Literal["detrojan.verify/1"] = Field(default="detrojan.verify/1", alias="schema")
    report: Words
    report_sha256: Words
    kind: Words
    verdict: Words
    targets: list[Label]
    started: Words
    version: Words
    method: Words
    seed: int
    same: bool
    delivered: bool = False
    model: Compared
    data: Compared
    repeatable: bool
    differences: list[Words]
    again: Repeated | None


def verify_text(record: VerifyRecord) -> RenderableType:
    """Return the record as a person reads it."""
    head = _head(record)
    by = f"detrojan {record.version}, {record.method}, seed {record.seed}"
    lines = [
        head,
        f"{record.kind.capitalize()} of {record.started} by {by}: {printable(record.verdict)}.",
        _compared("Model", record.model),
        _compared("Data", record.data),
    ]
    if record.again is not None:
        lines += _again(record, record.again)
    elif record.repeatable:
        lines.append("The scan can be repeated with --again.")
    lines += [f"Differs: {printable(text, 300)}" for text in record.differences]
    style = "bold" if record.same else "bold red"
    return Text("\n").join([Text(lines[0], style=style), *map(Text, lines[1:])])


def _head(record: VerifyRecord) -> str:
    if record.delivered:
        return "This is the file as it was delivered, from before the repair."
    if not record.model.same:
        return "This is another file."
    return "This is the repaired file." if record.kind == "repair" else "This is the file that was judged."


def _compared(what: str, one: Compared) -> str:
    if one.now is None:
        return f"{what}: SHA-256 {one.reported[:12]}..., not looked at"
    said = f"{what}: SHA-256 {one.now[:12]}..., "
    return f"{said}the same" if one.same else f"{said}but the report is of {one.reported[:12]}..."


def _again(record: VerifyRecord, again: Repeated) -> list[str]:
    """Return what a new scan says, beside what the report says."""
    same = "the same verdict and targets" if again.same_verdict else "something else"
    lines = [f"A new scan says {same}: {again.verdict}, targets {again.targets or 'none'}."]
    if not again.same_verdict:
        lines.append(f"The report says: {record.verdict}, targets {record.targets or 'none'}.")
    if not again.figures:
        return [*lines, f"All {plural(again.compared, 'figure')} are the same."]
    lines.append(f"{len(again.figures):,} of {plural(again.compared, 'figure')} differ:")
    lines += [
        f"  label {one.label}, {one.name}: {number(one.reported, 4)} then, {number(one.now, 4)} now"
        for one in again.figures[:6]
    ]
    return lines
