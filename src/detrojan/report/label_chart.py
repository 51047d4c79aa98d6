"""The charts of a scan by label: the sizes of the triggers, and what decides: anomaly index or p-value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from detrojan.report.charts import WIDE, padded
from detrojan.report.deciding import (
    decides_by_chance,
    index_unit,
    no_larger,
    significance,
    size_in,
    size_unit,
    threshold,
)
from detrojan.report.schema import Evidence, ScanReport
from detrojan.report.sentences import name_of
from detrojan.report.svg import Scale, bottom_axis, dots, drawing, left_axis, line, shape, short, words
from detrojan.words import label_name, printable

#: up to so many labels each get a row with its name; more are drawn as points
ROWS = 32
#: up to so many flagged labels are named in a chart of points
NAMED = 10
#: p-values below this are drawn as this
LEAST = 1e-30


@dataclass(frozen=True)
class _Measure:
    """What is drawn of each label.

    Attributes:
        name: of the axis.
        brief: the same, where there is little room.
        value: where a label lies on the axis, 0 or more; far out is suspicious.
        shown: puts a place on the axis in words.
        limit: from where on the scan may flag a label, or None.
        limit_name: what the limit is called.
        tick: puts a number of the axis in words.
        whole: whether the axis has numbers at whole places only.

    """

    name: str
    brief: str
    value: Callable[[Evidence], float]
    shown: Callable[[float], str]
    limit: float | None
    limit_name: str
    tick: Callable[[float], str] = short
    whole: bool = False


def size_chart(report: ScanReport, width: int = WIDE) -> Markup:
    """Return the size of the trigger of every tested label, the median, and the flagged labels named.

    Sizes of another unit than most have are left out.
    """
    unit = size_unit(report)
    known = [entry for entry in report.evidence if size_in(entry, unit) is not None]
    if unit is None or not known:
        return Markup()
    middle = statistics.median(entry.size or 0.0 for entry in known)
    measure = _Measure(
        name=f"Size of the recovered trigger ({unit.name})",
        brief=f"Size ({unit.name})",
        value=lambda entry: entry.size or 0.0,
        shown=lambda value: short(round(value, 1)),
        limit=middle,
        limit_name=f"median {short(round(middle, 1))}",
    )
    told = (
        f"Sizes of the recovered triggers of {len(known)} labels, median {middle:.1f} {unit.name}. "
        f"Flagged: {_flagged(report)}."
    )
    return _drawn(report, known, measure, {entry.label for entry in known}, width, told)


def anomaly_chart(report: ScanReport, width: int = WIDE) -> Markup:
    """Return what the scan decides on for every tested label, its limit, and the flagged ones named."""
    by_chance = decides_by_chance(report)
    known = [e for e in report.evidence if (e.p_value if by_chance else e.anomaly_index) is not None]
    if not known:
        return Markup()
    measure = _chances(report) if by_chance else _indices(report)
    end = "lowest" if by_chance else "highest"
    told = (
        f"{'P-value' if by_chance else 'Anomaly index'} of {len(known)} labels, "
        f"{f'{measure.limit_name}, ' if measure.limit is not None else ''}{end} "
        f"{measure.shown(max(measure.value(entry) for entry in known))}. "
        f"{'Flagged' if by_chance or measure.limit is None else 'Above it and flagged'}: {_flagged(report)}."
    )
    return _drawn(report, known, measure, _small(report), width, told)


def _flagged(report: ScanReport) -> str:
    names = [label_name(finding.label, finding.class_name) for finding in report.findings]
    return ", ".join(names[:8]) or "none"


def _drawn(
    report: ScanReport, known: list[Evidence], measure: _Measure, small: set[int], width: int, told: str
) -> Markup:
    """Return few labels in rows, many as points; `small` ones are not larger than usual."""
    highest = max((measure.limit or 1.0) * 1.25, *(measure.value(entry) for entry in known))
    draw = _rows if len(known) <= ROWS else _points
    return draw(report, known, measure, highest, small, width, told)


def _indices(report: ScanReport) -> _Measure:
    limit = threshold(report)
    return _Measure(
        name=f"Anomaly index ({index_unit(report).many})",
        brief=f"Anomaly index ({index_unit(report).name})",
        value=lambda entry: entry.anomaly_index or 0.0,
        shown=lambda value: f"{value:.1f}",
        limit=limit,
        limit_name="" if limit is None else f"threshold {limit:g}",
    )


def _chances(report: ScanReport) -> _Measure:
    limit = significance(report)
    return _Measure(
        name="p-value (smaller, further out: stronger evidence)",
        brief="p-value",
        value=lambda entry: max(0.0, -math.log10(max(entry.p_value or 0.0, LEAST))),
        shown=lambda value: f"{10**-value:.2g}",
        limit=None if limit is None else -math.log10(limit),
        limit_name="" if limit is None else f"significance {limit:g}",
        tick=lambda place: f"{10**-place:g}",
        whole=True,
    )


def _kind(entry: Evidence, small: set[int]) -> str:
    if entry.flagged:
        return "flagged"
    return "usual" if entry.label in small else "larger"


def _small(report: ScanReport) -> set[int]:
    """Return the labels that are no larger than usual; a p-value is low for small ones only."""
    entries = report.evidence if decides_by_chance(report) else no_larger(report)
    return {entry.label for entry in entries}


def _rows(
    report: ScanReport,
    known: list[Evidence],
    measure: _Measure,
    highest: float,
    small: set[int],
    width: int,
    told: str,
) -> Markup:
    wide = width > 500
    names = [name_of(report.model, entry.label) for entry in known]
    left = (206 if wide else 126) if any(names) else 40
    x = Scale(0, padded(highest), left, width - (58 if measure.whole else 52 if wide else 46))
    top, pitch = 24, 24
    bottom = top + pitch * len(known) + 2
    parts = [line(x(tick), top, x(tick), bottom, "grid") for tick in x.ticks(6, whole=measure.whole)]
    values: list[Markup] = []
    for place, (entry, name) in enumerate(zip(known, names, strict=True)):
        y = top + pitch * place + pitch / 2
        kind, value, full = _kind(entry, small), measure.value(entry), label_name(entry.label, name)
        shown = f"{entry.label} {printable(name, 26 if wide else 14)}"
        parts += [
            words(left - 8, y + 4, shown, f"row {kind}", "end", full),
            shape(
                "rect", f"bar {kind}", _told(entry, full), x=x(0), y=y - 6, width=x(value) - x(0), height=12.0
            ),
        ]
        values.append(words(x(value) + 6, y + 4, measure.shown(value), f"value halo {kind}"))
    if measure.limit is not None:
        parts += [
            line(x(measure.limit), top - 4, x(measure.limit), bottom, "limit"),
            words(x(measure.limit), top - 9, measure.limit_name, "note", "middle"),
        ]
    title = measure.name if wide else measure.brief
    parts += [
        *values,
        *bottom_axis(x, bottom, title, most=6, whole=measure.whole, shown=measure.tick),
    ]
    return drawing(width, bottom + 40, parts, told)


def _points(
    report: ScanReport,
    known: list[Evidence],
    measure: _Measure,
    highest: float,
    small: set[int],
    width: int,
    told: str,
) -> Markup:
    first, last = known[0].label, known[-1].label
    room = (last - first) * 0.015
    x = Scale(first - room, last + room, 48 if measure.whole else 40 if width > 500 else 34, width - 14)
    y = Scale(0, padded(highest), 262, 24)
    places = {entry.label: (x(entry.label), y(measure.value(entry))) for entry in known}
    of_kind: dict[str, list[Evidence]] = {"larger": [], "usual": [], "flagged": []}
    for entry in known:
        of_kind[_kind(entry, small)].append(entry)
    size = " fine" if len(known) > 200 else ""
    parts = left_axis(y, x.start, x.end, measure.name, whole=measure.whole, shown=measure.tick)
    parts += [
        dots([places[e.label] for e in of_kind[kind]], f"dots {kind}{size}") for kind in ("larger", "usual")
    ]
    if measure.limit is not None:
        height = y(measure.limit)
        parts += [
            line(x.start, height, x.end, height, "limit"),
            words(x.end, height - 5, measure.limit_name, "note halo", "end"),
        ]
    for entry in of_kind["flagged"]:
        px, py = places[entry.label]
        full = label_name(entry.label, name_of(report.model, entry.label))
        parts.append(shape("circle", "dot flagged", _told(entry, full), cx=px, cy=py, r=5.0))
    most = sorted(of_kind["flagged"], key=measure.value, reverse=True)[:NAMED]
    parts += _names(report, most, places, width)
    parts += bottom_axis(x, y(0), "Label", most=8 if width > 500 else 5, whole=True)
    return drawing(width, 302, parts, told)


def _names(
    report: ScanReport, named: list[Evidence], places: dict[int, tuple[float, float]], width: int
) -> list[Markup]:
    """Name points beside them, moved apart so that no name covers another."""
    parts: list[Markup] = []
    taken: list[tuple[float, float, float]] = []
    for entry in sorted(named, key=lambda e: places[e.label][1]):
        px, py = places[entry.label]
        text = label_name(entry.label, name_of(report.model, entry.label), 24)
        long = 7.2 * len(text) + 10
        right = px + long < width
        start = px + 9 if right else px - 9 - long
        line_y = py + 4
        while any(abs(line_y - y) < 14 and start < end and begin < start + long for begin, end, y in taken):
            line_y += 2
        taken.append((start, start + long, line_y))
        parts.append(words(px + (9 if right else -9), line_y, text, "name halo", "start" if right else "end"))
    return parts


def _told(entry: Evidence, name: str) -> str:
    said = []
    if entry.p_value is not None:
        said.append(f"p = {entry.p_value:.2g}")
    if entry.anomaly_index is not None:
        said.append(f"anomaly index {entry.anomaly_index:.2f}")
    if entry.size is not None:
        said.append(f"size {entry.size:.1f} {entry.unit}")
    return f"label {name}: {', '.join(said)}"
