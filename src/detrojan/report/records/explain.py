"""The record of an explanation: where the trigger sits in each input that a guard turned away."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from detrojan.records import Count, Label, Part, Share, Words
from detrojan.report.records.base import Record, Sparse
from detrojan.words import percent, printable


class Box(Part):
    """A rectangle in pixels of the network's input; row `top` and column `left` are its first ones."""

    top: Count
    left: Count
    height: Count
    width: Count


class Explained(Sparse):
    """An input that was turned away.

    `region` is where its answer sits, or null where no part of the input carries it. Where it is replaced,
    a share `removed` of the replacements bring another answer, mostly `without_label`. A share `carried` of
    clean images get the input's answer with the region in them; null where there were none.
    """

    input: Words
    label: Label
    class_name: Words
    region: Box | None
    without_label: Label | None = None
    without_class: Words | None = None
    removed: Share = None
    carried: Share = None
    picture: Words | None


class ExplainRecord(Record):
    """What `detrojan guard explain` found; `skipped` names what could not be read, with the reason."""

    schema_: Literal["detrojan.guard-explain/1"] = Field(default="detrojan.guard-explain/1", alias="schema")
    guard: Words
    inputs: Count
    backdoored: Count
    explained: list[Explained]
    skipped: list[Words] = Field(default_factory=list)
    warnings: list[Words]


def explain_text(record: ExplainRecord) -> RenderableType:
    """Return the table of the inputs that were turned away."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("Input", "answer", "region", "answer without it", "removed", "carried"):
        table.add_column(name, overflow="fold", justify="right" if name in {"removed", "carried"} else "left")
    for row in record.explained:
        box = row.region
        where = (
            "no part of it"
            if box is None
            else f"rows {box.top}-{box.top + box.height - 1}, columns {box.left}-{box.left + box.width - 1}"
        )
        without = "" if row.without_class is None else f"{row.without_label} {row.without_class}"
        shares = ["" if share is None else percent(share) for share in (row.removed, row.carried)]
        cells = [row.input, f"{row.label} {row.class_name}", where, without, *shares]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    said = f"{record.backdoored} of {record.inputs:,} inputs are called backdoored."
    meaning = (
        "removed: replacements of the region that bring another answer. "
        "carried: clean images that get the input's answer with the region in them."
    )
    told = [f"Warning: {text}" for text in record.warnings]
    parts = (
        [table, Text("\n".join([said, meaning, *told]))]
        if record.explained
        else [Text("\n".join([said, *told]))]
    )
    return Group(*parts)
