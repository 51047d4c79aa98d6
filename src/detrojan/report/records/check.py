"""The record of a check without data: what was said of each model file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from rich.console import RenderableType
from rich.text import Text

from detrojan.records import Label, Part, Share, Words
from detrojan.report.records.base import Record
from detrojan.words import printable, sentence

_STYLES = {"runs code": "bold red", "suspect": "bold red", "not judged": "yellow", "no sign": ""}


class SuspectRow(Part):
    """A label whose row of the last layer stands out."""

    label: Label
    class_name: Words
    p_value: Share


class CheckedFile(Part):
    """What was said of one file; digest, format and net are empty where it was not read."""

    path: Words
    said: Literal["no sign", "suspect", "runs code", "not judged"]
    reason: Words
    sha256: Words = ""
    format: Words = ""
    net: Words = ""
    suspect: list[SuspectRow] = Field(default_factory=list)


class CheckRecord(Record):
    """What `detrojan check` says of model files."""

    schema_: Literal["detrojan.check/1"] = Field(default="detrojan.check/1", alias="schema")
    files: list[CheckedFile]

    def exit_code(self, *, strict: bool) -> int:
        """Return 1 for a file that runs code or is suspect, 3 for one that was not judged if `strict`."""
        said = {file.said for file in self.files}
        if said & {"runs code", "suspect"}:
            return 1
        return 3 if strict and "not judged" in said else 0


def check_text(record: CheckRecord) -> RenderableType:
    """Return the record as a person reads it: a line for each file."""
    return Text("\n").join(
        Text(
            f"{printable(file.path)}: {file.said}: {sentence(printable(file.reason, 400))}",
            style=_STYLES[file.said],
        )
        for file in record.files
    )
