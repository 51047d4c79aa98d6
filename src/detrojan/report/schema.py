"""The one versioned schema that every output is made from, and that other tools read.

A number that could not be measured is null, never NaN. Keys are never removed or given another
meaning under the same `schema` text; unknown keys are refused, so that a typo is noticed. Reports of
older versions are read by `reading`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from detrojan.files import save_text
from detrojan.findings import Level, Unit, VerdictText
from detrojan.judging.measures import Measures
from detrojan.records import Count, Label, Number, Part, Share, Size, Values, Words


class UnitFacts(Part):
    """What a number counts: a short name, what follows 1 and any other number, and what the number says."""

    name: Words
    one: Words
    many: Words
    meaning: Words

    @classmethod
    def of(cls, unit: Unit) -> Self:
        """Return the facts of a unit."""
        return cls(**asdict(unit))


class AimFacts(Part):
    """Which images a trigger moves, and where to.

    With a `target` alone those of all other labels go to it; with a `source` too, only those of that label.
    With an `offset` each label goes to label + offset, modulo the number of classes.
    """

    target: Label | None
    source: Label | None
    offset: int


class AcceptedFacts(Part):
    """Why a known finding counts no more; `expires` is the last day on which that holds, null for no end."""

    reason: Words
    expires: Words | None


class BaselineFacts(Part):
    """The file of known findings that a scan's findings were compared with.

    Of the scan's problems `accepted` are in it, and `new` are not. `expired` of its entries fit and are too
    old. `absent` names entries for this model that were not found again. `verdict` is there where a verdict
    without a named label was accepted.
    """

    path: Words
    sha256: Words
    accepted: Count
    new: Count
    expired: Count
    absent: list[Words]
    verdict: AcceptedFacts | None = None


class FlaggedLabel(Part):
    """A label taken for a backdoor's target; `trigger` is the file of the recovered trigger.

    `unit` says what `size` counts; the report's `units` say what that means. `accepted` is there where a
    baseline names the finding.
    """

    label: Label
    class_name: Words
    aim: AimFacts
    anomaly_index: Number
    p_value: Share
    size: Size
    unit: Words | None
    attack_success: Share
    severity: Level
    confidence: Level
    trigger: Words | None
    accepted: AcceptedFacts | None = None


class Evidence(Part):
    """What was measured for one tested label, flagged or not."""

    label: Label
    anomaly_index: Number
    p_value: Share
    size: Size
    unit: Words | None
    attack_success: Share
    flagged: bool


class CriterionFacts(Part):
    """What decided which labels are flagged; a bound that did not count is null.

    `statistic` was compared between labels, and is suspicious where it is low or high (`direction`). A
    flagged label has an anomaly index above `threshold` or a p-value below `significance`: `decides` says
    which. Its trigger has at most `ratio` of the usual size and works on `confirm` of the held-out images.
    """

    statistic: Words
    direction: Literal["low", "high"]
    decides: Literal["index", "p-value"]
    unit: UnitFacts
    threshold: Number
    significance: Share
    ratio: Size
    confirm: Share


class PreprocessingFacts(Part):
    """What is done to images in [0, 1] before the network sees them."""

    low: float
    high: float
    mean: list[float]
    std: list[float]
    layout: Literal["NCHW", "NHWC"]
    channels: Literal["RGB", "BGR", "grey"] = "RGB"
    framing: Words = ""


class ModelFacts(Part):
    """The judged model: file, digest, network, (C, H, W) of its input, number of classes."""

    path: Words
    sha256: Words
    format: Words
    net: Words
    input_shape: list[Count]
    classes: Count
    class_names: list[Words]
    parameters: Count
    preprocessing: PreprocessingFacts


class DataFacts(Part):
    """The data it was judged on; `shape` is (C, H, W) of one image.

    `images` were there; a scan `used` so many of them, drawn at random, and null stands for all. `skipped`
    names what was left out, with the reason.
    """

    source: Words
    sha256: Words
    images: Count
    used: Count | None = None
    labelled: bool
    shape: list[Count]
    notes: list[Words]
    skipped: list[Words] = Field(default_factory=list)


class RunFacts(Part):
    """What is needed to run it again. `started` is in UTC, ISO 8601."""

    seed: int
    versions: dict[str, Words]
    device: Words
    threads: Count
    method: Words
    summary: Words
    reference: Words
    hyper_parameters: Values
    started: Words
    command: list[Words] | None


class Step(Part):
    """One step of a repair; the first of `curves` is the horizontal axis of the others."""

    method: Words
    summary: Words
    curves: dict[str, list[Number]]
    details: Values

    @model_validator(mode="after")
    def _curves_fit(self) -> Self:
        lengths = {name: len(values) for name, values in self.curves.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in lengths.items())
            raise ValueError(f"expected curves of one length, got {told}")
        return self


class AdviceFacts(Part):
    """One piece of advice on what to do next, and the command that does it, or null."""

    text: Words
    command: Words | None = None


class TaxonomyFacts(Part):
    """What a list of threats calls the attack that was looked for."""

    framework: Words
    id: Words
    name: Words


def _check_units(entries: Sequence[FlaggedLabel | Evidence], units: Sequence[UnitFacts]) -> None:
    """Refuse a size without a unit, and a unit that nobody explains."""
    known = {unit.name for unit in units}
    for entry in entries:
        if (entry.size is not None or entry.unit is not None) and entry.unit not in known:
            raise ValueError(f"expected a unit out of {sorted(known)}, as in units, got {entry.unit!r}")


class Report(Part):
    """What every report holds, and how it is written."""

    model: ModelFacts
    data: DataFacts
    run: RunFacts
    seconds: Annotated[float, Field(ge=0)]
    warnings: list[Words]

    def to_json(self, indent: int | None = 2) -> str:
        """Return the report as JSON text, ASCII only, without NaN."""
        value = self.model_dump(mode="json", by_alias=True)
        inputs_last = [key for key in value if key not in Report.model_fields] + [*Report.model_fields]
        return json.dumps({key: value[key] for key in inputs_last}, indent=indent, allow_nan=False)

    def save(self, path: str | Path) -> Path:
        """Write the JSON to `path`, whole or not at all.

        Raises:
            InputError: the file cannot be written.

        """
        return save_text(path, self.to_json() + "\n")


class ScanReport(Report):
    """A scan's verdict, what it rests on, and what it cost.

    `findings` are the flagged labels, most anomalous first; `evidence` holds every tested label.
    `criterion` is what decided, null where nothing was compared. `units` holds each unit of a size.
    `passes` counts forward+backward passes of one sample. `advice` says what to do next, most urgent first;
    `taxonomy` names the attack that was looked for in lists of threats, whatever was found. `baseline` says
    what the findings were compared with, null where with nothing.
    """

    schema_: Literal["detrojan.scan/2"] = Field(default="detrojan.scan/2", alias="schema")
    verdict: VerdictText
    reason: Words
    targets: list[Label]
    criterion: CriterionFacts | None
    findings: list[FlaggedLabel]
    labels_tested: list[Label]
    evidence: list[Evidence]
    units: list[UnitFacts]
    passes: Count
    details: Values
    advice: list[AdviceFacts] = Field(default_factory=list)
    taxonomy: list[TaxonomyFacts] = Field(default_factory=list)
    baseline: BaselineFacts | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        _check_units([*self.findings, *self.evidence], self.units)
        flagged = sorted(finding.label for finding in self.findings)
        if self.targets != flagged:
            raise ValueError(f"expected targets {flagged} as in findings, got {self.targets}")
        if self.labels_tested != [entry.label for entry in self.evidence]:
            raise ValueError("expected one entry of evidence for each of labels_tested, in their order")
        if self.verdict == "no evidence" and flagged:
            raise ValueError(f'expected no findings under the verdict "no evidence", got labels {flagged}')
        return self


class RepairReport(Report):
    """A repair: what it was made from, what it did, and how the model answers before and after.

    `model` is the delivered one, with its digest. `output` is the repaired file and `output_sha256` its
    digest, both null where none was written. `verification` holds what a re-scan of the repaired model said
    (key "verdict" and others); it is empty where none was made. `advice` and `taxonomy` are as of a scan.
    """

    schema_: Literal["detrojan.repair/2"] = Field(default="detrojan.repair/2", alias="schema")
    before: Measures
    after: Measures
    steps: list[Step]
    verification: Values
    output: Words | None
    output_sha256: Words | None = None
    findings: list[FlaggedLabel]
    units: list[UnitFacts]
    advice: list[AdviceFacts] = Field(default_factory=list)
    taxonomy: list[TaxonomyFacts] = Field(default_factory=list)

    @model_validator(mode="after")
    def _units_known(self) -> Self:
        _check_units(self.findings, self.units)
        return self


class EvaluateReport(Report, Measures):
    """How a model answers images, and the same images with a trigger.

    `reference` is the file of the other model that `agreement` compares with, `trigger` that of what was
    stamped; empty where there is none.
    """

    schema_: Literal["detrojan.evaluate/2"] = Field(default="detrojan.evaluate/2", alias="schema")
    reference: Words = ""
    trigger: Words = ""


AnyReport = ScanReport | RepairReport | EvaluateReport
