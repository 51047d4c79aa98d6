"""The index of a fleet as a page: a table that can be sorted and searched, and links to the models' pages."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from urllib.parse import quote

from markupsafe import Markup

from detrojan.report.html_page import environment
from detrojan.report.records.fleet import (
    LEVELS,
    RESULTS,
    FleetModel,
    FleetRecord,
    baseline_line,
    common_folder,
    ranked,
    said_of,
)
from detrojan.words import DASH, duration, plural, printable

#: the colour of each result
_MOODS = {
    "backdoor found": "backdoored",
    "unsafe file": "backdoored",
    "inconclusive": "inconclusive",
    "skipped": "inconclusive",
    "no evidence": "no-evidence",
    "accepted": "plain",
}
#: the columns: their heading, and whether they hold numbers
_COLUMNS = (
    ("Model", False),
    ("Result", False),
    ("Severity", False),
    ("What is known", False),
    ("Hint", True),
    ("Format", False),
    ("Size", True),
    ("Time", True),
)


def render_fleet(record: FleetRecord) -> str:
    """Return the page: self-contained, with a few lines of script that sort and search its table."""
    folder = common_folder([model.name for model in record.models])
    css = "".join(_text(name) for name in ("page.css", "fleet.css"))
    script = _text("fleet.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment()
        .get_template("fleet.html.jinja")
        .render(
            title=f"Fleet of {plural(len(record.models), 'model')}",
            tiles=[(name, f"{count:,}") for name, count in record.counts().items()],
            mood="backdoored" if record.failing else "inconclusive" if record.exit_code else "no-evidence",
            said=_sentence(record),
            columns=_COLUMNS,
            rows=[_row(model, folder) for model in ranked(record.models)],
            folder=printable(folder, 120),
            ignored=record.ignored,
            known=baseline_line(record),
            version=record.version,
            css=Markup(css),  # noqa: S704 - ours
            script=Markup(script),  # noqa: S704 - ours
            digest=digest,
        )
    )


def _text(name: str) -> str:
    return resources.files("detrojan.report").joinpath(name).read_text("utf-8")


def _sentence(record: FleetRecord) -> str:
    """Return the result of the whole fleet in one sentence."""
    if record.failing:
        failing = plural(len(record.failing), "model")
        return f"{failing} of {len(record.models):,} failed by the policy."
    open_ones = sum(model.status in {"skipped", "waiting"} for model in record.models)
    if open_ones:
        return f"{plural(open_ones, 'model')} of {len(record.models):,} could not be judged, or wait."
    if record.exit_code:
        return "Some scans are inconclusive."
    return "No model failed by the policy. That is not a proof that they are clean."


def _row(model: FleetModel, folder: str) -> dict[str, object]:
    """Return what one row shows: for each column its text, and what it is sorted by."""
    first = model.first
    chance = None if first is None else first.p_value
    severity = -1 if model.severity is None else LEVELS.index(model.severity)
    cells = [
        (printable(model.name.removeprefix(folder), 160), model.name),
        (model.result, RESULTS.index(model.result)),
        (model.severity or DASH, -severity),
        (printable(said_of(model, folder), 300), said_of(model)),
        (DASH if chance is None else f"{chance:.2g}", 2.0 if chance is None else chance),
        (DASH if first is None else printable(first.format, 40), "" if first is None else first.format),
        (_size(model.bytes), model.bytes),
        (DASH if model.seconds is None else duration(model.seconds), model.seconds or 0),
    ]
    return {
        "cells": [(text, key, text == DASH) for text, key in cells],
        "mood": _MOODS.get(model.result, "plain"),
        "page": None if model.page is None else quote(model.page),
        "text": f"{model.name} {model.result} {model.sha256}".lower(),
    }


def _size(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f}\u00a0{unit}"
    return f"{count}\u00a0B"
