"""What the calls give back: a result that prints in one line, shows in a notebook, and saves itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from detrojan.errors import OptionError
from detrojan.files import save_text
from detrojan.findings import Finding, ScanResult, VerdictText
from detrojan.jobs.repair_job import Mended
from detrojan.jobs.repairing import Outcome
from detrojan.models.classifier import Classifier
from detrojan.models.loading import format_of, model_sha256
from detrojan.models.writing import save_model
from detrojan.report.html_page import render_html
from detrojan.report.outputs.base import Output, outputs
from detrojan.report.pictures import TriggerPictures
from detrojan.report.schema import AnyReport, RepairReport, ScanReport
from detrojan.words import duration, label_name, percent

#: how high a result is in a notebook, in CSS pixels; it scrolls
HEIGHT = 640


def output_of(path: str | Path) -> Output:
    """Return the output that the ending of a report's file asks for.

    Raises:
        OptionError: no output has such an ending.

    """
    path = Path(path)
    kinds = {ending: kind for kind in outputs().values() for ending in (kind.name, *kind.endings)}
    kind = kinds.get(path.suffix.lower().lstrip("."))
    if kind is None:
        known = ", ".join(f".{ending}" for ending in kinds)
        raise OptionError(f"expected a file that ends in {known}, got {path.name}")
    return kind


@dataclass(frozen=True, kw_only=True, repr=False)
class Reported(ABC):
    """Base of the results: a report, the pictures of its triggers, and what can be done with them.

    Attributes:
        report: all facts, as they are written to JSON.
        pictures: of the triggers, by label.

    """

    report: AnyReport
    pictures: Mapping[int, TriggerPictures] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader must know."""
        return tuple(self.report.warnings)

    def to_json(self) -> str:
        """Return the report as JSON, which `detrojan repair --findings` reads too."""
        return self.report.to_json()

    def to_html(self) -> str:
        """Return the page, which loads nothing from elsewhere."""
        return render_html(self.report, self.pictures)

    def save(self, path: str | Path) -> Path:
        """Write the report; the file's ending says as what, e.g. scan.html or scan.json.

        Args:
            path: where it goes.

        Raises:
            OptionError: no output has such an ending.
            InputError: the file cannot be written.

        """
        path = Path(path)
        save_text(path, output_of(path).render(self.report, self.pictures))
        return path

    @abstractmethod
    def summary(self) -> str:
        """Return the result in one line."""

    def __repr__(self) -> str:
        """Return the result in one line."""
        return f"<{self.summary()}>"

    def _repr_html_(self) -> str:
        """Return the page as notebooks show it, in a frame of its own so that its style stays there."""
        return (
            f'<iframe title="{escape(self.summary())}" sandbox srcdoc="{escape(self.to_html())}" '
            f'style="width:100%;height:{HEIGHT}px;border:1px solid #8884;border-radius:6px"></iframe>'
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class ScanOutcome(Reported):
    """What a scan found.

    Attributes:
        report: all facts, as they are written to JSON.
        result: the findings with their triggers, which `repair` takes.

    """

    report: ScanReport
    result: ScanResult

    @property
    def verdict(self) -> VerdictText:
        """Whether the network is "backdoored", "no evidence" was found, or the scan is "inconclusive"."""
        return self.result.verdict

    @property
    def reason(self) -> str:
        """What the verdict rests on."""
        return self.result.reason

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The labels taken for targets, most anomalous first."""
        return self.result.flagged

    @property
    def targets(self) -> list[int]:
        """The same labels as numbers, in ascending order."""
        return self.result.targets

    def summary(self) -> str:
        """Return the verdict, the targets, and what it took."""
        names = {entry.label: entry.class_name for entry in self.report.findings}
        targets = ", ".join(label_name(label, names.get(label) or "") for label in self.targets[:5])
        found = f": target {targets}" if targets else ""
        tested = f"{len(self.report.labels_tested):,} labels tested in {duration(self.report.seconds)}"
        return f"{self.verdict}{found}; {tested}"


@dataclass(frozen=True, kw_only=True, repr=False)
class RepairOutcome(Reported):
    """A repaired copy of a model, and what the repair came to.

    Attributes:
        report: all facts, as they are written to JSON.
        mended: the repaired copy and how it was measured.
        outcome: "repaired", "not repaired" or "not verified".
        complaint: what is wrong, where anything is.

    """

    report: RepairReport
    mended: Mended
    outcome: Outcome
    complaint: str

    @property
    def model(self) -> Classifier:
        """The repaired copy; the delivered model is as it was."""
        return self.mended.model

    def save_model(self, path: str | Path) -> Path:
        """Write the repaired model; from then on the report names the file and holds its digest.

        Args:
            path: a file of the delivered model's kind, or one that can hold any network.

        Raises:
            ModelError: no format can write this model to such a file.
            InputError: the file cannot be written.

        """
        path = Path(path)
        save_model(self.model, path)
        written = {"output": str(path), "output_sha256": model_sha256(path, format_of(path))}
        object.__setattr__(self, "report", self.report.model_copy(update=written))
        return path

    def summary(self) -> str:
        """Return the outcome, and the worst trigger before and after."""
        before, after = _worst(self.report.before), _worst(self.report.after)
        known = before is not None and after is not None
        said = f"; recovered trigger {percent(before)} before, {percent(after)} after" if known else ""
        return f"{self.outcome}{said}"


def _worst(measures: Any) -> float | None:
    return max((entry.attack_success for entry in measures.per_target), default=None)
