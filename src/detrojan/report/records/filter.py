"""The record of a filter: which samples of a data set are taken for poisoned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from rich.console import RenderableType
from rich.text import Text

from detrojan.records import Count, Part, Share, Size, Values, Words
from detrojan.report.records.base import Record
from detrojan.words import percent


class Filtered(Part):
    """The data that were looked at."""

    source: Words
    sha256: Words
    samples: Count


class FilterRecord(Record):
    """What `filter.json` holds; `flagged_positions` are places in the data's source.

    `classes` says by label what the method saw. `precision`, `recall`, `false_alarms` and `auroc` are there
    where the poisoned samples are known. `started` is in UTC, ISO 8601.
    """

    schema_: Literal["detrojan.filter/1"] = Field(default="detrojan.filter/1", alias="schema")
    method: Words
    hyper_parameters: Values
    seed: int
    data: Filtered
    flagged: Count
    flagged_positions: list[Count]
    classes: dict[str, Values]
    warnings: list[Words]
    limits: list[Words]
    precision: Share = None
    recall: Share = None
    false_alarms: Share = None
    auroc: Share = None
    started: Words | None = None
    seconds: Size
    command: list[Words] | None


def filter_text(record: FilterRecord, out: str) -> RenderableType:
    """Return the record as a person reads it; `out` is the folder that was written."""
    lines = [f"{record.flagged:,} of {record.data.samples:,} samples are taken for poisoned."]
    by_class = [f"{label}: {told['flagged']}" for label, told in record.classes.items() if told["flagged"]]
    if by_class:
        lines.append(f"By label: {', '.join(by_class)}")
    if "recall" in record.model_fields_set:
        lines.append(
            f"Precision {percent(record.precision)}, recall {percent(record.recall)}, "
            f"false alarms {percent(record.false_alarms)}."
        )
    lines += record.limits
    lines += [f"Warning: {text}" for text in record.warnings]
    return Text("\n".join([*lines, f"Written to {out}"]))
