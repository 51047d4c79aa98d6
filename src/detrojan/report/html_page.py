"""Renders reports as one self-contained page: no script, no request, light and dark, any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from detrojan.findings import PIXELS
from detrojan.report.charts import (
    NARROW,
    WIDE,
    curve_chart,
    curve_groups,
    size_chart,
)
from detrojan.report.deciding import (
    decides_by_chance,
    no_larger,
    significance,
    size_in,
    size_unit,
    size_words,
    threshold,
)
from detrojan.report.evaluate_page import evaluate_values
from detrojan.report.label_chart import ROWS, anomaly_chart
from detrojan.report.meanings import meanings
from detrojan.report.pictures import TriggerPictures, uri
from detrojan.report.schema import (
    AnyReport,
    EvaluateReport,
    FlaggedLabel,
    RepairReport,
    ScanReport,
    Step,
)
from detrojan.report.sentences import (
    cost,
    counted,
    evaluate_sentence,
    failure_sentence,
    finding_sentence,
    inputs,
    is_doubtful,
    is_failed,
    measure_rows,
    measured_sentence,
    name_of,
    reach,
    repair_sentence,
    stopped_at,
    verdict_sentence,
    verification_rows,
    verification_sentence,
)
from detrojan.words import DASH, duration, fact_rows, label_name, number, percent, printable

if TYPE_CHECKING:
    from jinja2 import Environment

Pictures = Mapping[int, TriggerPictures]
#: rows of the table of labels; the JSON holds all of them
TABLE = 50


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
        title: its heading.
        said: its result in one sentence.
        body: its HTML, everything from outside escaped.
        version: of the detrojan that made the report.

    """

    title: str
    said: str
    body: Markup
    version: str


def render_html(report: AnyReport, pictures: Pictures | None = None, *, title: str = "") -> str:
    """Return the page of one report.

    Args:
        report: of any kind.
        pictures: of the findings' triggers, by label.
        title: heading of the page; by default the kind of report and the model's file.

    """
    kind = {ScanReport: "Backdoor scan", RepairReport: "Repair", EvaluateReport: "Evaluation"}[type(report)]
    name = printable(report.model.path or report.model.net or "model", 120)
    return render_page(title or f"{kind} of {name}", [section(report, pictures, title="Result")])


def render_page(title: str, sections: Sequence[Section], *, intro: str = "") -> str:
    """Return one page that holds several sections, with an outline of their results on top."""
    css = Markup(resources.files("detrojan.report").joinpath("page.css").read_text("utf-8"))  # noqa: S704 - ours
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            title=printable(title, 200),
            intro=intro,
            sections=sections,
            css=css,
            version=sections[0].version if sections else "",
        )
    )


def section(report: AnyReport, pictures: Pictures | None = None, *, title: str = "") -> Section:
    """Return the part of a page that shows a report of any kind."""
    pictures = pictures or {}
    if isinstance(report, ScanReport):
        heading, said, values = "Scan", verdict_sentence(report), _scan_values(report, pictures)
    elif isinstance(report, RepairReport):
        heading, said, values = "Repair", repair_sentence(report), _repair_values(report, pictures)
    else:
        heading, said, values = "Evaluation", evaluate_sentence(report), evaluate_values(report, pictures)
    name = type(report).__name__.removesuffix("Report").lower()
    return filled(
        f"{name}.html.jinja",
        title=title or heading,
        said=said,
        version=report.run.versions.get("detrojan", ""),
        warnings=[printable(text, 600) for text in report.warnings],
        record=inputs(report),
        cost=cost(report),
        **values,
    )


def filled(template: str, *, title: str, said: str, version: str, **values: Any) -> Section:
    """Return a section made from one of our templates; what it is given is escaped there."""
    body = _environment().get_template(template).render(said=said, **values)
    # The template has escaped every value: this only tells the outer one so.
    return Section(title, said, Markup(body), version)  # noqa: S704


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only pages need it

    return Environment(
        loader=PackageLoader("detrojan", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _states_none(report: ScanReport | RepairReport) -> bool:
    """Return whether a report's findings are too doubtful for a word on how sure they are."""
    return isinstance(report, ScanReport) and report.verdict == "inconclusive"


def _scan_values(report: ScanReport, pictures: Pictures) -> dict[str, Any]:
    shown = sum(
        (entry.p_value if decides_by_chance(report) else entry.anomaly_index) is not None
        for entry in report.evidence
    )
    tested, unsaid = reach(report)
    tiles = [
        ("Labels tested", f"{len(report.labels_tested):,}", f"of {report.model.classes:,} classes"),
        (
            "Labels flagged",
            str(len(report.findings)),
            _nearest(report),
        ),
        ("Images used", *_images(report)),
        ("Time", duration(report.seconds), f"{report.passes:,} passes"),
    ]
    by_chance, unit = decides_by_chance(report), size_unit(report)
    ordered = sorted(
        report.evidence,
        key=lambda e: (
            not e.flagged,
            1.0 if e.p_value is None or not by_chance else e.p_value,
            -(e.anomaly_index or 0),
        ),
    )
    return {
        "mood": report.verdict.replace(" ", "-"),
        "reason": printable(report.reason, 600),
        "tiles": tiles,
        "findings": [_finding(entry, report, pictures) for entry in report.findings],
        "anomaly": [anomaly_chart(report, width) for width in (WIDE, NARROW)],
        "by_chance": by_chance,
        "rows": shown <= ROWS,
        "has_chances": any(entry.p_value is not None for entry in report.evidence),
        "size_unit": "" if unit is None else unit.name,
        "sizes": [size_chart(report, width) for width in (WIDE, NARROW)],
        "tested_count": len(report.evidence),
        "table": [
            {
                "name": label_name(entry.label, name_of(report.model, entry.label)),
                "index": number(entry.anomaly_index),
                "chance": DASH if entry.p_value is None else f"{entry.p_value:.2g}",
                "size": number(size_in(entry, unit), 1),
                "success": percent(entry.attack_success),
                "flagged": entry.flagged,
            }
            for entry in ordered[:TABLE]
        ],
        "meanings": meanings(report),
        "tested": tested,
        "unsaid": unsaid,
    }


def _images(report: ScanReport) -> tuple[str, str]:
    """Return how many images the scan used, and a note on them."""
    given = report.data.images
    used = given if report.data.used is None else report.data.used
    labelled = "labelled" if report.data.labelled else "without labels"
    return f"{used:,}", labelled if used >= given else f"of {given:,}, {labelled}"


def _nearest(report: ScanReport) -> str:
    """Return how far out the most suspicious label lies, and from where on labels are flagged."""
    if decides_by_chance(report):
        least = min(entry.p_value for entry in report.evidence if entry.p_value is not None)
        limit = significance(report)
        return f"lowest p-value {least:.2g}" + ("" if limit is None else f", flagged below {limit:g}")
    if all(entry.anomaly_index is None for entry in report.evidence):
        return ""
    highest = number(max((entry.anomaly_index or 0 for entry in no_larger(report)), default=None), 1)
    limit = threshold(report)
    return f"highest index {highest}" + ("" if limit is None else f", threshold {limit:g}")


def _finding(entry: FlaggedLabel, report: ScanReport | RepairReport, pictures: Pictures) -> dict[str, Any]:
    drawn = pictures.get(entry.label)
    _, *size = report.model.input_shape
    area = size[0] * size[1] if len(size) == 2 else 0
    facts = [
        ("Anomaly index", number(entry.anomaly_index)),
        ("Attack success", percent(entry.attack_success)),
    ]
    if entry.size is not None:
        part = f" ({percent(entry.size / area)} of the image)" if area and entry.unit == PIXELS.name else ""
        facts.append(("Size", f"{size_words(entry, report)}{part}"))
    if entry.p_value is not None:
        facts.append(("p-value", f"{entry.p_value:.2g}"))
    if entry.trigger:
        facts.append(("Trigger file", printable(entry.trigger)))
    parts = ("trigger", "mask", "pattern", "examples")
    return {
        "name": label_name(entry.label, entry.class_name),
        "severity": entry.severity,
        "confidence": "" if _states_none(report) else entry.confidence,
        "sentence": finding_sentence(entry, report),
        "facts": facts,
        "count": drawn.count if drawn else 0,
        **{f"{name}_uri": uri(getattr(drawn, name, None)) for name in parts},
    }


def _repair_values(report: RepairReport, pictures: Pictures) -> dict[str, Any]:
    verdict = report.verification.get("verdict")
    return {
        "mood": "backdoored" if is_failed(report) else "inconclusive" if is_doubtful(report) else "plain",
        "failure": failure_sentence(report),
        "output": f"Written to {printable(report.output)}" if report.output else "",
        "measured": measure_rows(report.before, report.after, report.model),
        "counts": " ".join(filter(None, [measured_sentence(report), counted(report.after.counts)])),
        "steps": [step_values(step) for step in report.steps],
        "checked": verification_sentence(report),
        "checked_mood": str(verdict).replace(" ", "-"),
        # what could not be verified says why by itself
        "checked_reason": ""
        if verdict == "inconclusive"
        else printable(str(report.verification.get("reason") or ""), 600),
        "verification": verification_rows(report),
        "findings": [_finding(entry, report, pictures) for entry in report.findings],
        "meanings": meanings(report),
    }


def step_values(step: Step) -> dict[str, Any]:
    """Return what the templates show of one step."""
    chosen = stopped_at(step)
    return {
        "method": printable(step.method),
        "summary": printable(step.summary, 600),
        "charts": [
            {
                "names": [printable(name, 40) for name in names],
                "pair": [curve_chart(step.curves, names, width, chosen=chosen) for width in (WIDE, NARROW)],
            }
            for names in curve_groups(step.curves)
        ],
        "facts": fact_rows({name: value for name, value in step.details.items() if name != "chosen"}),
    }
