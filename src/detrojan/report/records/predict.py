"""The record of answers: what a model says of each input, and what its guard says, where it has one."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from detrojan.records import Label, Part, Share, Words
from detrojan.report.records.base import Record, Sparse
from detrojan.words import number, percent, plural, printable


class Answer(Sparse):
    """The answer to one input; `probability` is null where the network's answers overflow.

    `backdoored` is there where a guard judged it, or where the model has a class for it. A guard's
    statistic stands under its own name, e.g. "entropy", and is null where it is no finite number. `part`
    names the part of the guard that called it backdoored, where the guard has several.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    input: Words
    label: Label
    class_name: Words
    probability: Share
    backdoored: bool | None = None
    part: Words | None = None

    def statistic(self, name: str) -> float | None:
        """Return what the guard measured, by the name of its statistic."""
        return self.__pydantic_extra__[name]


class Answering(Part):
    """The model that answers."""

    path: Words
    sha256: Words
    net: Words


class PredictRecord(Record):
    """What `detrojan predict` tells; `skipped` names what could not be read, with the reason."""

    schema_: Literal["detrojan.predict/1"] = Field(default="detrojan.predict/1", alias="schema")
    model: Answering
    predictions: list[Answer]
    skipped: list[Words] = Field(default_factory=list)
    warnings: list[Words]


def overflow_warnings(answers: list[Answer], statistic: str | None = None) -> list[str]:
    """Return what a person has to know of answers that are no numbers; often nothing.

    Args:
        answers: the rows.
        statistic: what a guard judged them by; None without a guard.

    """
    if statistic is None:
        lost = sum(answer.probability is None for answer in answers)
        said = f"{plural(lost, 'input')} without a probability"
    else:
        lost = sum(answer.statistic(statistic) is None for answer in answers)
        said = f"{plural(lost, 'input')} called backdoored without {statistic}"
    return [f"{said}: there the network's answers overflow"] if lost else []


def answer_table(answers: list[Answer], statistic: str | None = None) -> RenderableType:
    """Return the rows as a table; what is called backdoored stands out.

    Args:
        answers: the rows.
        statistic: what a guard judged them by; None without a guard.

    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.caption, table.caption_justify = " ".join(overflow_warnings(answers, statistic)) or None, "left"
    table.add_column("Input", overflow="fold")
    table.add_column("label", justify="right", overflow="ellipsis" if statistic is None else "fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right", overflow="ellipsis" if statistic is None else "fold")
    if statistic is not None:
        table.add_column(statistic, justify="right", overflow="fold")
        table.add_column("verdict", overflow="fold")
    for answer in answers:
        cells = [answer.input, str(answer.label), answer.class_name, percent(answer.probability)]
        if statistic is not None:
            verdict = f"backdoored{f' ({answer.part})' if answer.part else ''}"
            verdict = verdict if answer.backdoored else "no evidence"
            cells += [number(answer.statistic(statistic), 4), verdict]
        style = "bold red" if answer.backdoored else ""
        table.add_row(*(Text(printable(cell), style=style) for cell in cells))
    return table
