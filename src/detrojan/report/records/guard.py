"""The records of a guard: how it was set up, what it says of inputs, and how right it is."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from rich.console import Group, RenderableType
from rich.text import Text

from detrojan.records import Count, Label, Number, Part, Share, Values, Words
from detrojan.report.records.base import Record
from detrojan.report.records.predict import Answer, answer_table
from detrojan.words import percent


class FoundTrigger(Part):
    """How many of the images with a trigger that a scan has found get past a guard."""

    label: Label
    stamped: Count
    passed: Count


class CalibrateRecord(Record):
    """How a guard was set up; `boundary` is in units of `statistic`.

    The FRR on further clean inputs lies between `frr_low` and `frr_high`, with a confidence of 90%.

    What belongs to the guard's kind stands under its own name, such as "fit" of STRIP.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Values] = Field(init=False)

    schema_: Literal["detrojan.guard-calibrate/1"] = Field(
        default="detrojan.guard-calibrate/1", alias="schema"
    )
    guard: Words
    hyper_parameters: Values
    statistic: Words
    boundary: Number
    inputs: Count
    called_backdoored: Count
    frr_low: Share = None
    frr_high: Share = None
    found: list[FoundTrigger] | None = None
    warnings: list[Words]
    out: Words


class CheckRecord(Record):
    """What a guard says of each input; `skipped` names what could not be read, with the reason."""

    schema_: Literal["detrojan.guard-check/1"] = Field(default="detrojan.guard-check/1", alias="schema")
    guard: Words
    statistic: Words
    boundary: Number
    inputs: Count
    backdoored: Count
    predictions: list[Answer]
    skipped: list[Words] = Field(default_factory=list)
    warnings: list[Words]


class MeasureRecord(Record):
    """How right a guard is: `frr` of `clean` images, `far` of `bad` ones, `auroc` over all boundaries.

    The attack's success is there where its target is known.
    """

    schema_: Literal["detrojan.guard-measure/1"] = Field(default="detrojan.guard-measure/1", alias="schema")
    guard: Words
    boundary: Number
    frr: Share
    far: Share
    auroc: Share
    clean: Count
    bad: Count
    attack_success: Share = None
    attack_success_guarded: Share = None
    warnings: list[Words]


def calibrate_text(record: CalibrateRecord) -> RenderableType:
    """Return where the boundary lies, and what is doubtful about it."""
    side = "at or below" if record.statistic == "entropy" else "at or beyond"
    called = f"{record.called_backdoored} of {record.inputs:,} clean ones"
    limit = f"{side} {record.boundary:.4g}"
    lines = [
        f"An input is called backdoored where its {record.statistic} is {limit}: {called}.",
        f"Of others it will be {percent(record.frr_low)} to {percent(record.frr_high)} (confidence 90%).",
        *(
            f"With the trigger found for label {one.label}, {one.passed:,} of {one.stamped:,} images pass "
            f"({percent(one.passed / one.stamped)})."
            for one in record.found or []
        ),
        *(f"Warning: {text}" for text in record.warnings),
        f"Written to {record.out}",
    ]
    return Text("\n".join(lines))


def check_text(record: CheckRecord) -> RenderableType:
    """Return the table of the inputs, and how many are called backdoored."""
    said = f"{record.backdoored} of {record.inputs:,} inputs are called backdoored"
    boundary = f" (boundary: {record.statistic} {record.boundary:.4g})"
    told = [f"Warning: {text}" for text in record.warnings]
    return Group(
        answer_table(record.predictions, record.statistic), Text("\n".join([said + boundary, *told]))
    )


def measure_text(record: MeasureRecord) -> RenderableType:
    """Return the figures in words."""
    lines = [
        f"FRR {percent(record.frr)} of {record.clean:,} clean images are called backdoored.",
        f"FAR {percent(record.far)} of {record.bad:,} stamped images are let through.",
        f"AUROC {record.auroc:.4f}",
    ]
    if record.attack_success is not None:
        lines.append(
            f"Attack success {percent(record.attack_success)}, "
            f"with the guard {percent(record.attack_success_guarded)}."
        )
    lines += [f"Warning: {text}" for text in record.warnings]
    return Text("\n".join(lines))
