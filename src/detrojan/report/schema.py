"""The one versioned schema that every output is made from, and that other tools read.

A number that could not be measured is null, never NaN. Keys are never removed or given another
meaning under the same `schema` text; unknown keys are refused, so that a typo is noticed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import Field, ValidationError, model_validator

from detrojan.errors import DataError
from detrojan.files import save_text
from detrojan.findings import Level, VerdictText
from detrojan.judging.measures import Measures
from detrojan.records import Count, Label, Number, Part, Share, Size, Values, Words

#: a report of 1283 labels has 0.3 MB; nothing that we write comes near this
LARGEST = 100 * 2**20


class FlaggedLabel(Part):
    """A label taken for a backdoor's target.

    `trigger` is the file of the recovered trigger; `source` the only label whose images it turns, or null.
    """

    label: Label
    class_name: Words
    anomaly_index: Number
    p_value: Share
    mask_l1: Size
    attack_success: Share
    severity: Level
    confidence: Level
    trigger: Words | None
    source: Label | None = None


class Evidence(Part):
    """What was measured for one tested label, flagged or not."""

    label: Label
    anomaly_index: Number
    p_value: Share = None
    mask_l1: Size
    attack_success: Share
    flagged: bool


class PreprocessingFacts(Part):
    """What is done to images in [0, 1] before the network sees them."""

    low: float
    high: float
    mean: list[float]
    std: list[float]
    layout: Literal["NCHW", "NHWC"]


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

    `images` were there; a scan `used` so many of them, drawn at random, and null stands for all.
    """

    source: Words
    sha256: Words
    images: Count
    used: Count | None = None
    labelled: bool
    shape: list[Count]
    notes: list[Words]


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
    `passes` counts forward+backward passes of one sample.
    """

    schema_: Literal["detrojan.scan/1"] = Field(default="detrojan.scan/1", alias="schema")
    verdict: VerdictText
    reason: Words
    targets: list[Label]
    findings: list[FlaggedLabel]
    labels_tested: list[Label]
    evidence: list[Evidence]
    passes: Count
    details: Values

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
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

    `verification` holds what a re-scan of the repaired model said (key "verdict" and others); it
    is empty where none was made.
    """

    schema_: Literal["detrojan.repair/1"] = Field(default="detrojan.repair/1", alias="schema")
    before: Measures
    after: Measures
    steps: list[Step]
    verification: Values
    output: Words | None
    findings: list[FlaggedLabel]


class EvaluateReport(Report, Measures):
    """How a model answers images, and the same images with a trigger.

    `reference` is the file of the other model that `agreement` compares with, `trigger` that of what was
    stamped; empty where there is none.
    """

    schema_: Literal["detrojan.evaluate/1"] = Field(default="detrojan.evaluate/1", alias="schema")
    reference: Words = ""
    trigger: Words = ""


AnyReport = ScanReport | RepairReport | EvaluateReport
_KINDS: dict[str, type[AnyReport]] = {
    "detrojan.scan/1": ScanReport,
    "detrojan.repair/1": RepairReport,
    "detrojan.evaluate/1": EvaluateReport,
}


def load_report(path: str | Path) -> AnyReport:
    """Read a report of any kind; its `schema` says which.

    Raises:
        DataError: the file cannot be read, is not JSON, or does not keep to its schema; the
            message names the first places that are wrong.

    """
    value = _json_object(Path(path))
    kind = value.get("schema")
    report = _KINDS.get(kind) if isinstance(kind, str) else None
    if report is None:
        raise DataError(f"{path}: expected a report with a schema of {', '.join(_KINDS)}, got {kind!r:.60}")
    try:
        return report.model_validate(value, strict=True)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, item['loc'])) or 'report'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise DataError(f"{path}: not a valid {kind} report: {'; '.join(wrong[:3])}{more}") from error


def _json_object(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"it holds {constant}, which is not JSON")

    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise DataError(f"{path}: expected a report of at most {LARGEST >> 20} MB, got {size >> 20} MB")
        value = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    except OSError as error:
        raise DataError(f"cannot read the report {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a report in JSON, but {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a report, a JSON object, got {type(value).__name__}")
    return value
