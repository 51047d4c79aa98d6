"""The record of a fleet: what is known of each of many models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Literal

from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from detrojan.findings import Level, VerdictText
from detrojan.records import Count, Label, Part, Share, Size, Words
from detrojan.report.records.base import Record
from detrojan.report.schema import BaselineFacts
from detrojan.words import DASH, plural, printable

#: what is known of a model: it was scanned, nothing can judge it, its content was judged under another
#: name, or its turn has not come
Status = Literal["scanned", "skipped", "duplicate", "waiting"]
#: why a model could not be judged
Category = Literal["missing", "unsafe", "unsupported", "unreadable", "unusable", "library", "lost", "fault"]
#: how bad a finding is, the mildest first
LEVELS: tuple[Level, ...] = ("low", "medium", "high")
#: what the names of versions in a registry begin with
REGISTERED = "registry:"


class FirstLook(Part):
    """What its file says of a model without data: its network, and how far one row of its head stands apart.

    `p_value` is the lowest of all labels by the clues of `head_rows`, and `label` the one that has it; null
    where there is no linear last layer, or too few labels.
    """

    format: Words
    net: Words
    classes: Count
    parameters: Count
    p_value: Share = None
    label: Label | None = None


class ModelBaseline(Part):
    """How many problems of a model a baseline accepts, and how many are new.

    `severity` is the highest of the findings that are new, null where there is none. `reason` and `expires`
    are those of the first problem that is accepted.
    """

    accepted: Count
    new: Count
    severity: Level | None = None
    reason: Words = ""
    expires: Words | None = None


class FleetModel(Part):
    """One model of a fleet.

    `key` is a digest of all that the result depends on: the model, the data, the policy and the version. A
    `duplicate` has the content and the key of the model `same_as`. `category` and `reason` say why a model
    was skipped, or why it waits. `severity` and `confidence` are the highest of its findings, accepted ones
    too. `baseline` says what is accepted, null where the call had no baseline. `report` and `page` lie in the
    folder of the fleet. `seconds` and `when` are of the scan.
    """

    name: Words
    path: Words
    sha256: Words
    bytes: Count
    key: Words
    status: Status
    category: Category | None = None
    reason: Words = ""
    same_as: Words | None = None
    first: FirstLook | None = None
    verdict: VerdictText | None = None
    severity: Level | None = None
    confidence: Level | None = None
    targets: list[Label] = Field(default_factory=list)
    baseline: ModelBaseline | None = None
    report: Words | None = None
    page: Words | None = None
    deaths: list[Words] = Field(default_factory=list)
    seconds: Size = None
    when: Words | None = None

    @property
    def accepted(self) -> bool:
        """Whether a baseline accepts all that was found."""
        return self.baseline is not None and self.baseline.accepted > 0 and not self.baseline.new

    @property
    def registered(self) -> bool:
        """Whether it is a version in a registry, which has another path on each machine."""
        return self.name.startswith(REGISTERED)

    @property
    def result(self) -> str:
        """The result in a word or two, for people and for counting."""
        if self.status == "scanned":
            if self.accepted:
                return "accepted"
            return "backdoor found" if self.verdict == "backdoored" else str(self.verdict)
        if self.category == "unsafe":
            return "unsafe file"
        return {"skipped": "skipped", "duplicate": "duplicate", "waiting": "not scanned"}[self.status]


class FleetRecord(Record):
    """What `fleet.json` holds: all models that the call named, in the order in which they were found.

    `policy` is the digest of what decides how models are judged; `ignored` counts files of the folders that
    are no models by their endings and their content. `failing` names the models that the policy fails.
    `baseline` says what known findings are accepted; it is not there where the call had no baseline.
    """

    schema_: Literal["detrojan.fleet/1"] = Field(default="detrojan.fleet/1", alias="schema")
    version: Words
    policy: Words
    models: list[FleetModel]
    ignored: Count
    failing: list[Words]
    exit_code: Count
    baseline: BaselineFacts | None = None

    def counts(self) -> dict[str, int]:
        """Return how many models have each result, the most urgent first."""
        found = Counter(model.result for model in self.models)
        return {name: found[name] for name in RESULTS if found[name]}


#: results in the order in which a person wants to see them
RESULTS = (
    "backdoor found",
    "unsafe file",
    "inconclusive",
    "skipped",
    "not scanned",
    "accepted",
    "no evidence",
    "duplicate",
)


def ranked(models: list[FleetModel]) -> list[FleetModel]:
    """Return models with the most urgent first; those of one result keep their order."""

    def urgency(model: FleetModel) -> tuple[int, int]:
        return RESULTS.index(model.result), -LEVELS.index(model.severity) if model.severity else 0

    return sorted(models, key=urgency)


def common_folder(names: Sequence[str]) -> str:
    """Return the folder that all names begin with, its slash too, or an empty text."""
    if len(names) < 2:
        return ""
    folders = zip(*(name.split("/")[:-1] for name in names), strict=False)
    shared = [folder[0] for folder in takewhile(lambda folder: len(set(folder)) == 1, folders)]
    return "/".join([*shared, ""]) if shared else ""


def said_of(model: FleetModel, folder: str = "") -> str:
    """Return in a few words what a person has to know of a model beside its result.

    Args:
        model: the model.
        folder: what names are shown without.

    """
    if model.same_as is not None:
        return f"the same content as {model.same_as.removeprefix(folder)}"
    known = _known_words(model.baseline)
    if model.targets:
        targets = f"{', '.join(map(str, model.targets[:6]))}{', …' if len(model.targets) > 6 else ''}"
        return f"target {targets}{f'; {known}' if known else ''}"
    if known:
        return known
    return model.reason.removeprefix(f"{model.path}: ")


def _known_words(said: ModelBaseline | None) -> str:
    """Return what a baseline accepts of a model, and why; empty where that is nothing."""
    if said is None or not said.accepted:
        return ""
    until = "" if said.expires is None else f", until {said.expires}"
    reason = f"accepted: {said.reason or 'known finding'}{until}"
    return f"{said.new:,} new, {said.accepted:,} {reason}" if said.new else reason


def baseline_line(record: FleetRecord) -> str:
    """Return in one sentence what a baseline accepts of a fleet, or an empty text where there is none."""
    facts = record.baseline
    if facts is None:
        return ""
    absent = f" {plural(len(facts.absent), 'known finding')} did not come back." if facts.absent else ""
    return (
        f"Compared with {printable(facts.path)}: {facts.accepted:,} known and accepted, "
        f"{facts.new:,} new.{absent}"
    )


def highest(levels: Iterable[Level]) -> Level | None:
    """Return the worst of some severities or confidences; None of none."""
    return max(levels, key=LEVELS.index, default=None)


def fleet_text(record: FleetRecord, out: str, most: int = 40) -> RenderableType:
    """Return the record as a person reads it.

    Args:
        record: the record.
        out: the folder that was written.
        most: rows of the table; the page has all.

    """
    table = Table(box=None, pad_edge=False)
    for name in ("Model", "Result", "Severity", ""):
        table.add_column(name, overflow="fold")
    shown = ranked(record.models)[:most]
    folder = common_folder([model.name for model in record.models])
    for model in shown:
        name = model.name.removeprefix(folder)
        cells = (name, model.result, model.severity or DASH, said_of(model, folder))
        table.add_row(*(Text(printable(cell, 300)) for cell in cells))
    more = len(record.models) - len(shown)
    told = ", ".join(f"{name} {count:,}" for name, count in record.counts().items()) or "none"
    lines = [f"{plural(more, 'more model')} in the page"] if more else []
    lines += [f"{plural(len(record.models), 'model')}: {told}"]
    if known := baseline_line(record):
        lines.append(known)
    if record.failing:
        lines.append(f"{plural(len(record.failing), 'model')} failed by the policy")
    lines.append(f"Written to {printable(out)}: fleet.json, index.html, models/")
    return Group(table, Text("\n".join(["", *lines])))
