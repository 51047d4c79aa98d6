"""The charts of the page: anomaly index by label, mask sizes, and the curves of a repair.

Each chart is drawn for a width in pixels, so that its text keeps its size on a phone: the page
holds a wide and a narrow one and shows what fits.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from detrojan.report.schema import Evidence, ScanReport
from detrojan.report.sentences import index_unit, name_of, small_masks, threshold
from detrojan.report.svg import (
    Scale,
    bottom_axis,
    dots,
    drawing,
    left_axis,
    line,
    round_up,
    shape,
    short,
    trace,
    words,
)
from detrojan.report.words import label_name, printable

WIDE, NARROW = 760, 340
#: up to so many labels each get a row with its name; more are drawn as points
ROWS = 32
#: up to so many flagged labels are named in a chart of points
NAMED = 10


def anomaly_chart(report: ScanReport, width: int = WIDE) -> Markup:
    """Return the anomaly index of every tested label, the threshold, and the flagged ones named."""
    measured = [entry for entry in report.evidence if entry.anomaly_index is not None]
    if not measured:
        return Markup()
    limit = threshold(report)
    highest = max((limit or 1.0) * 1.25, *(_index(entry) for entry in measured))
    flagged = [label_name(f.label, f.class_name) for f in report.findings]
    told = (
        f"Anomaly index of {len(measured)} labels, {_limit_named(limit)}highest {highest:.1f}. "
        f"{'Flagged' if limit is None else 'Above it and flagged'}: {', '.join(flagged[:8]) or 'none'}."
    )
    draw = _rows if len(measured) <= ROWS else _points
    return draw(report, measured, limit, highest, width, told)


def size_chart(report: ScanReport, width: int = WIDE) -> Markup:
    """Return how many labels have which mask size (L1 norm), the median, and the flagged ones marked."""
    sizes = [entry.mask_l1 for entry in report.evidence if entry.mask_l1 is not None]
    if not sizes:
        return Markup()
    x = Scale(0, _padded(max(sizes)), 40 if width > 500 else 34, width - 14)
    bins = min(38 if width > 500 else 22, max(10, 3 * math.isqrt(len(sizes))))
    step = x.high / bins
    counts = [0] * bins
    for size in sizes:
        counts[min(bins - 1, int(size / step))] += 1
    y = Scale(0, _even(max(counts)), 176, 52)
    parts = left_axis(y, x.start, x.end, "Labels", most=4, whole=True)
    for place, count in enumerate(counts):
        if count:
            left, right = x(place * step) + 0.5, x((place + 1) * step) - 0.5
            ends = " to ".join(short(round(edge * step, 1)) for edge in (place, place + 1))
            title = f"{count} with {ends} pixels"
            parts.append(
                shape("rect", "bar", title, x=left, y=y(count), width=right - left, height=y(0) - y(count))
            )
    middle = x(statistics.median(sizes))
    parts += [
        line(middle, 38, middle, y(0), "median"),
        words(
            middle + (5 if middle < width * 0.7 else -5),
            44,
            f"median {short(round(statistics.median(sizes), 1))}",
            "note",
            "start" if middle < width * 0.7 else "end",
        ),
    ]
    parts += _size_marks(report, x, y(0), width)
    parts += bottom_axis(
        x, y(0), "Size of the recovered mask (L1 norm, pixels)", most=7 if width > 500 else 5
    )
    told = (
        f"Sizes of the recovered masks of {len(sizes)} labels, median {statistics.median(sizes):.1f} pixels."
    )
    return drawing(width, 216, parts, told)


def curve_groups(curves: Mapping[str, Sequence[float | None]]) -> list[list[str]]:
    """Return which series share a chart.

    The first series is the horizontal axis. Series within [0, 1] are shares and come together, in
    percent; each other one stands alone.
    """
    names = [name for name in list(curves)[1:] if any(value is not None for value in curves[name])]
    shares = [name for name in names if _is_share(curves[name])]
    return [group for group in (shares, *([name] for name in names if name not in shares)) if group]


def curve_chart(
    curves: Mapping[str, Sequence[float | None]],
    names: Sequence[str],
    width: int = WIDE,
    *,
    chosen: float | None = None,
) -> Markup:
    """Return the chart of the series `names` over the first series.

    Args:
        curves: all series of a step.
        names: one of `curve_groups`.
        width: in pixels.
        chosen: where on the horizontal axis the step stopped, or None.

    """
    across = next(iter(curves))
    percent = all(_is_share(curves[name]) for name in names)
    unit, times = ("%", 100.0) if percent else ("", 1.0)
    along = [value or 0.0 for value in curves[across]]
    series = {name: [None if v is None else v * times for v in curves[name]] for name in names}
    known = [v for values in series.values() for v in values if v is not None]
    low = min(0.0, *known)
    x = Scale(min(along), max(along), 48, width - 18)
    y = Scale(low, 100.0 if percent else _padded(max(known)), 232, 28)
    parts = left_axis(y, x.start, x.end, "Share of images" if percent else printable(names[0], 40), unit=unit)
    if chosen is not None and x.low <= chosen <= x.high:
        px = x(chosen)
        right = px < width * 0.7
        parts += [
            line(px, y.end, px, y.start, "chosen"),
            words(
                px + (5 if right else -5), y.end - 5, "stopped here", "note halo", "start" if right else "end"
            ),
        ]
    for place, values in enumerate(series.values()):
        points = [(x(a), None if v is None else y(v)) for a, v in zip(along, values, strict=True)]
        parts.append(trace(points, f"series s{place % 4}"))
        if len(points) <= 24:
            parts.append(dots([(px, py) for px, py in points if py is not None], f"knots s{place % 4}"))
    whole = all(value == int(value) for value in along)
    parts += bottom_axis(
        x, y.start, printable(across, 60).capitalize(), most=8 if width > 500 else 5, whole=whole
    )
    told = ", ".join(
        f"{printable(name, 40)} from {_first(values)} to {_first(values[::-1])}{unit}"
        for name, values in series.items()
    )
    return drawing(width, 272, parts, f"Curves over {printable(across, 60)}: {told}.")


def _index(entry: Evidence) -> float:
    return entry.anomaly_index or 0.0


def _padded(value: float) -> float:
    return round_up(value * 1.02)


def _even(count: int) -> float:
    return max(2.0, round_up(count * 1.05))


def _kind(entry: Evidence, small: set[int]) -> str:
    if entry.flagged:
        return "flagged"
    return "usual" if entry.label in small else "larger"


def _rows(
    report: ScanReport, measured: list[Evidence], limit: float | None, highest: float, width: int, told: str
) -> Markup:
    wide = width > 500
    names = [name_of(report.model, entry.label) for entry in measured]
    left = (206 if wide else 126) if any(names) else 40
    x = Scale(0, _padded(highest), left, width - (46 if wide else 34))
    small = {entry.label for entry in small_masks(report)}
    top, pitch = 24, 24
    bottom = top + pitch * len(measured) + 2
    parts = [line(x(tick), top, x(tick), bottom, "grid") for tick in x.ticks(6)]
    values: list[Markup] = []
    for place, (entry, name) in enumerate(zip(measured, names, strict=True)):
        y = top + pitch * place + pitch / 2
        kind, value, full = _kind(entry, small), _index(entry), label_name(entry.label, name)
        shown = f"{entry.label} {printable(name, 26 if wide else 14)}"
        parts += [
            words(left - 8, y + 4, shown, f"row {kind}", "end", full),
            shape(
                "rect", f"bar {kind}", _told(entry, full), x=x(0), y=y - 6, width=x(value) - x(0), height=12.0
            ),
        ]
        values.append(words(x(value) + 6, y + 4, f"{value:.1f}", f"value halo {kind}"))
    if limit is not None:
        parts += [
            line(x(limit), top - 4, x(limit), bottom, "limit"),
            words(x(limit), top - 9, f"threshold {limit:g}", "note", "middle"),
        ]
    parts += [
        *values,
        *bottom_axis(x, bottom, f"Anomaly index ({index_unit(report, brief=not wide)})", most=6),
    ]
    return drawing(width, bottom + 40, parts, told)


def _points(
    report: ScanReport, measured: list[Evidence], limit: float | None, highest: float, width: int, told: str
) -> Markup:
    first, last = measured[0].label, measured[-1].label
    room = (last - first) * 0.015
    x = Scale(first - room, last + room, 40 if width > 500 else 34, width - 14)
    y = Scale(0, _padded(highest), 262, 24)
    small = {entry.label for entry in small_masks(report)}
    places = {entry.label: (x(entry.label), y(_index(entry))) for entry in measured}
    of_kind: dict[str, list[Evidence]] = {"larger": [], "usual": [], "flagged": []}
    for entry in measured:
        of_kind[_kind(entry, small)].append(entry)
    size = " fine" if len(measured) > 200 else ""
    parts = left_axis(y, x.start, x.end, f"Anomaly index ({index_unit(report)})")
    parts += [
        dots([places[e.label] for e in of_kind[kind]], f"dots {kind}{size}") for kind in ("larger", "usual")
    ]
    if limit is not None:
        parts += [
            line(x.start, y(limit), x.end, y(limit), "limit"),
            words(x.end, y(limit) - 5, f"threshold {limit:g}", "note halo", "end"),
        ]
    for entry in of_kind["flagged"]:
        px, py = places[entry.label]
        full = label_name(entry.label, name_of(report.model, entry.label))
        parts.append(shape("circle", "dot flagged", _told(entry, full), cx=px, cy=py, r=5.0))
    parts += _names(report, of_kind["flagged"], places, width)
    parts += bottom_axis(x, y(0), "Label", most=8 if width > 500 else 5, whole=True)
    return drawing(width, 302, parts, told)


def _limit_named(limit: float | None) -> str:
    return "" if limit is None else f"threshold {limit:g}, "


def _names(
    report: ScanReport, flagged: list[Evidence], places: dict[int, tuple[float, float]], width: int
) -> list[Markup]:
    """Name the most anomalous points beside them, moved apart so that no name covers another."""
    most = sorted(flagged, key=_index, reverse=True)[:NAMED]
    parts: list[Markup] = []
    taken: list[tuple[float, float, float]] = []
    for entry in sorted(most, key=lambda e: places[e.label][1]):
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


def _size_marks(report: ScanReport, x: Scale, floor: float, width: int) -> list[Markup]:
    marked = [f for f in report.findings if f.mask_l1 is not None]
    parts: list[Markup] = []
    for finding in marked:
        px = x(finding.mask_l1 or 0)
        parts += [
            line(px, 28, px, floor, "flag-line"),
            shape("path", "flag-mark", d=f"M{px - 5:.1f} 20h10l-5 8z"),
        ]
    if marked:
        # One line of text for all: marks of several targets stand close together.
        ordered = sorted(marked, key=lambda f: f.mask_l1 or 0)
        names = ", ".join(str(f.label) for f in ordered[:6]) + ("…" if len(ordered) > 6 else "")
        px = x(ordered[-1].mask_l1 or 0)
        right = px + 9 + 7.2 * (len(names) + 8) < width
        at = px + 9 if right else x(ordered[0].mask_l1 or 0) - 9
        parts.append(words(at, 28, f"flagged: {names}", "name halo", "start" if right else "end"))
    return parts


def _told(entry: Evidence, name: str) -> str:
    size = "" if entry.mask_l1 is None else f", mask {entry.mask_l1:.1f} pixels"
    return f"label {name}: anomaly index {_index(entry):.2f}{size}"


def _is_share(values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(0 <= value <= 1 for value in known)


def _first(values: Sequence[float | None]) -> str:
    return next((f"{value:.1f}" for value in values if value is not None), "unknown")
