"""The record of the demonstration: what was planted, what was found, and who was right."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from detrojan.records import Count, Label, Part, Share, Size, Words
from detrojan.report.records.base import Record
from detrojan.report.schema import RepairReport, ScanReport
from detrojan.report.sentences import repair_sentence, verdict_sentence, verification_sentence
from detrojan.words import duration, percent


class Sticker(Part):
    """The trigger: the edge of a square and its upper left corner, in pixels."""

    size: Count
    top: Count
    left: Count


class PlantedSticker(Part):
    """What was planted, and where it leads."""

    net: Words
    target: Label
    class_name: Words
    sticker: Sticker


class TrueTrigger(Part):
    """What the true trigger does, for judging only."""

    accuracy_before: Share
    accuracy_after: Share
    success_before: Share
    success_after: Share
    twin_accuracy: Share


class DemoRecord(Record):
    """What the demonstration's `report.json` holds; `repair` is null where nothing was flagged."""

    schema_: Literal["detrojan.demo/1"] = Field(default="detrojan.demo/1", alias="schema")
    passed: bool
    failures: list[Words]
    planted: PlantedSticker
    true_trigger: TrueTrigger | None
    suspect: ScanReport
    twin: ScanReport
    repair: RepairReport | None
    seconds: Size


def planted_sentence(record: DemoRecord, victim: str) -> str:
    """Return what was planted; `victim` is the sign that carries the sticker in the pictures."""
    planted = record.planted
    return (
        f"A yellow sticker of {planted.sticker.size} by {planted.sticker.size} pixels makes network A take a "
        f"{victim} sign, or any other, for label {planted.target} “{planted.class_name}”."
    )


def judgement(record: DemoRecord) -> str:
    """Return whether the demonstration was right, by the true trigger."""
    if record.failures:
        return "Not everything went as it should: " + "; ".join(record.failures) + "."
    assert record.true_trigger is not None
    return (
        f"Yes: the right target was named and the twin not flagged; the true sticker works on "
        f"{percent(record.true_trigger.success_after)} of the signs after the repair, "
        f"{percent(record.true_trigger.success_before)} before."
    )


def judged_rows(record: DemoRecord) -> list[tuple[str, str, str]]:
    """Return what was measured with the true trigger, before and after."""
    truth = record.true_trigger
    if truth is None:
        return []
    return [
        ("Success of the true sticker", percent(truth.success_before), percent(truth.success_after)),
        ("Clean accuracy of network A", percent(truth.accuracy_before), percent(truth.accuracy_after)),
        ("Clean accuracy of network B", percent(truth.twin_accuracy), ""),
    ]


def demo_text(record: DemoRecord, victim: str, page: str) -> RenderableType:
    """Return the story for the terminal.

    Args:
        record: all that was found.
        victim: the sign that carries the sticker in the pictures.
        page: where the page was written.

    """
    lines = [
        ("Planted", planted_sentence(record, victim)),
        ("Network A", verdict_sentence(record.suspect)),
        ("Network B", verdict_sentence(record.twin)),
    ]
    if record.repair is not None:
        lines.append(("Repair", repair_sentence(record.repair)))
        lines.append(("Check", verification_sentence(record.repair)))
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column()
    for name, said in lines:
        grid.add_row(Text(name), Text(said))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("Judged with the true sticker", "before", "after"):
        table.add_column(name, justify="left" if name[0] == "J" else "right")
    for row in judged_rows(record):
        table.add_row(*map(Text, row))
    judged: list[RenderableType] = [table, Text()] if table.row_count else []
    return Group(
        grid,
        Text(),
        *judged,
        Text(judgement(record), style="bold red" if record.failures else "bold green"),
        Text(f"{duration(record.seconds or 0)}; see {page}", style="dim"),
    )
