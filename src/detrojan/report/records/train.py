"""The record of a training on data that nobody vouches for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from rich.console import RenderableType
from rich.text import Text

from detrojan.records import Count, Share, Size, Values, Words
from detrojan.report.records.base import Record
from detrojan.report.schema import DataFacts, Step
from detrojan.words import percent


class TrainRecord(Record):
    """What `train.json` holds; `isolated_positions` are places in the data's source.

    `attack_success` is there where a known trigger was stamped.
    """

    schema_: Literal["detrojan.train/1"] = Field(default="detrojan.train/1", alias="schema")
    method: Words
    hyper_parameters: Values
    net: Words
    seed: int
    data: DataFacts
    held_out: Count
    clean_accuracy: Share
    training_accuracy: Share
    isolated: Count
    isolated_positions: list[Count]
    steps: list[Step]
    command: list[Words] | None
    attack_success: Share = None
    warnings: list[Words]
    seconds: Size


def train_text(record: TrainRecord, out: str) -> RenderableType:
    """Return the record as a person reads it; `out` is the folder that was written."""
    lines = [f"{step.summary[:1].upper()}{step.summary[1:]}." for step in record.steps]
    if record.clean_accuracy is not None:
        lines.append(f"Clean accuracy {percent(record.clean_accuracy)} on {record.held_out:,} images.")
    if "attack_success" in record.model_fields_set:
        lines.append(f"Attack success {percent(record.attack_success)}.")
    lines += [f"Warning: {text}" for text in record.warnings]
    return Text("\n".join([*lines, f"Written to {out}"]))
