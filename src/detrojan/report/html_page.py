"""Renders reports as one self-contained page: no script, no request, light and dark, any width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from detrojan.report.evaluate_page import evaluate_values
from detrojan.report.finding_part import Pictures
from detrojan.report.repair_page import repair_values
from detrojan.report.scan_page import scan_values
from detrojan.report.schema import AnyReport, EvaluateReport, RepairReport, RunFacts, ScanReport
from detrojan.report.sentences import cost, evaluate_sentence, inputs, repair_sentence, verdict_sentence
from detrojan.words import file_name, printable, sentence

if TYPE_CHECKING:
    from jinja2 import Environment

#: so many characters of a digest tell files apart; the record holds all of them
DIGEST = 12


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
        title: its heading.
        said: its result in one sentence.
        body: its HTML, everything from outside escaped.
        version: of the detrojan that made the report.
        mood: "backdoored", "no-evidence", "inconclusive", "good" or "plain": the colour of its result.

    """

    title: str
    said: str
    body: Markup
    version: str
    mood: str = "plain"


def render_html(report: AnyReport, pictures: Pictures | None = None, *, title: str = "") -> str:
    """Return the page of one report.

    Args:
        report: of any kind.
        pictures: of the findings' triggers, by label.
        title: heading of the page; by default the kind of report and the name of the model's file.

    """
    kind = {ScanReport: "Backdoor scan", RepairReport: "Repair", EvaluateReport: "Evaluation"}[type(report)]
    name = printable(file_name(report.model.path) or report.model.net or "a model", 120)
    part = section(report, pictures, title="Result")
    return render_page(title or f"{kind} of {name}", [part], about=about(report))


def about(report: AnyReport) -> list[tuple[str, str]]:
    """Return what identifies a report, as (name, value): file, digest, data, date and version."""
    model = report.model
    digest = f"{model.sha256[:DIGEST]}…" if model.sha256 else ""
    return about_run([("File", file_name(model.path)), ("SHA-256", digest)], report.data.source, report.run)


def about_run(rows: Sequence[tuple[str, str]], data: str, run: RunFacts) -> list[tuple[str, str]]:
    """Return some rows, and those on data, date and version; empty values are left out."""
    day, _, time = run.started.partition("T")
    every = [
        *rows,
        ("Data", file_name(data)),
        ("Date", f"{day} {time[:5]} UTC" if time else day),
        ("detrojan", run.versions.get("detrojan", "")),
    ]
    return [(name, printable(value, 80)) for name, value in every if value]


def render_page(
    title: str, sections: Sequence[Section], *, intro: str = "", about: Sequence[tuple[str, str]] = ()
) -> str:
    """Return one page that holds several sections, with their results on top.

    Args:
        title: its heading.
        sections: its parts, one or more.
        intro: what it is about, in one or two sentences.
        about: what identifies what was judged, as (name, value).

    """
    css = Markup(resources.files("detrojan.report").joinpath("page.css").read_text("utf-8"))  # noqa: S704 - ours
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            title=printable(title, 200),
            intro=intro,
            about=about,
            sections=sections,
            css=css,
            version=sections[0].version if sections else "",
        )
    )


def section(report: AnyReport, pictures: Pictures | None = None, *, title: str = "") -> Section:
    """Return the part of a page that shows a report of any kind."""
    pictures = pictures or {}
    if isinstance(report, ScanReport):
        heading, said, values = "Scan", verdict_sentence(report), scan_values(report, pictures)
    elif isinstance(report, RepairReport):
        heading, said, values = "Repair", repair_sentence(report), repair_values(report, pictures)
    else:
        heading, said, values = "Evaluation", evaluate_sentence(report), evaluate_values(report, pictures)
    name = type(report).__name__.removesuffix("Report").lower()
    return filled(
        f"{name}.html.jinja",
        title=title or heading,
        said=said,
        version=report.run.versions.get("detrojan", ""),
        warnings=[sentence(printable(text, 600)) for text in report.warnings],
        record=inputs(report),
        cost=cost(report),
        **values,
    )


def filled(
    template: str, *, title: str, said: str, version: str, mood: str = "plain", **values: Any
) -> Section:
    """Return a section made from one of our templates; what it is given is escaped there."""
    body = environment().get_template(template).render(said=said, mood=mood, **values)
    # The template has escaped every value: this only tells the outer one so.
    return Section(title, said, Markup(body), version, mood)  # noqa: S704


@cache
def environment() -> Environment:
    """Return the templates of this package; they escape what they are given."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only pages need it

    return Environment(
        loader=PackageLoader("detrojan", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
