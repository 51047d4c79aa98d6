"""The record of an attack: what was planted, and what the networks do on held-out data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from rich.console import RenderableType
from rich.text import Text

from detrojan.records import Count, Label, Share, Size, Values, Words
from detrojan.report.records.base import Record, Sparse
from detrojan.report.schema import DataFacts
from detrojan.words import percent


class BackdoorEntry(Sparse):
    """One backdoor; `target` and `offset` say where it leads, `source` is the only label it works on.

    `poisoned` counts its training images, null where the attack trains the network itself.
    """

    target: Label | None
    offset: int
    source: Label | None
    trigger: Words
    poisoned: Count | None
    attack_success: Share
    attack_success_on_clean_twin: Share = None


class AttackRecord(Record):
    """What `attack.json` holds; `covers` counts changed images that keep their label."""

    schema_: Literal["detrojan.attack/1"] = Field(default="detrojan.attack/1", alias="schema")
    method: Words
    hyper_parameters: Values
    clean_label: bool
    net: Words | None
    fitting: Values
    seed: int
    data: DataFacts
    held_out: Count
    clean_accuracy: Share
    clean_accuracy_of_clean_twin: Share
    backdoors: list[BackdoorEntry]
    covers: Count
    command: list[Words] | None
    warnings: list[Words]
    seconds: Size


def attack_text(record: AttackRecord, out: str) -> RenderableType:
    """Return the record as a person reads it; `out` is the folder that was written."""
    lines = []
    if record.clean_accuracy is not None:
        lines.append(
            f"Clean accuracy {percent(record.clean_accuracy)} on {record.held_out:,} held-out images."
        )
    if record.clean_accuracy_of_clean_twin is not None:
        lines.append(f"Clean twin: {percent(record.clean_accuracy_of_clean_twin)}.")
    for number, entry in enumerate(record.backdoors):
        target = "any but the truth" if entry.target is None else f"label {entry.target}"
        if entry.offset:
            target = f"the true label plus {entry.offset}"
        done = "trained in" if entry.poisoned is None else f"{entry.poisoned:,} images poisoned"
        success = entry.attack_success
        measured = "" if success is None else f": attack success {percent(success)}"
        lines.append(f"Trigger {number} leads to {target}{measured} ({done}).")
    if record.covers:
        lines.append(f"{record.covers:,} more images were changed and keep their label.")
    lines += [f"Warning: {text}" for text in record.warnings]
    return Text("\n".join([*lines, f"Written to {out}"]))
