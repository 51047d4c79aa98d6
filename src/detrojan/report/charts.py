"""The charts of the curves of a step (those by label: `label_chart`).

Each chart is drawn for a width in pixels, so that its text keeps its size on a phone: the page
holds a wide and a narrow one and shows what fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from detrojan.report.svg import (
    Scale,
    bottom_axis,
    dots,
    drawing,
    left_axis,
    line,
    round_up,
    trace,
    words,
)
from detrojan.words import printable

WIDE, NARROW = 760, 340


def curve_groups(curves: Mapping[str, Sequence[float | None]]) -> list[list[str]]:
    """Return which series share a chart.

    The first series is the horizontal axis. Losses come together; so do series within [0, 1], which are
    shares, in percent; each other one stands alone.
    """
    names = [name for name in list(curves)[1:] if any(value is not None for value in curves[name])]
    losses = [name for name in names if _is_loss(name)]
    shares = [name for name in names if name not in losses and _is_share(curves[name])]
    others = [[name] for name in names if name not in {*shares, *losses}]
    return [group for group in (shares, losses, *others) if group]


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
    percent = all(_is_share(curves[name]) and not _is_loss(name) for name in names)
    unit, times = ("%", 100.0) if percent else ("", 1.0)
    along = [value or 0.0 for value in curves[across]]
    series = {name: [None if v is None else v * times for v in curves[name]] for name in names}
    known = [v for values in series.values() for v in values if v is not None]
    low = min(0.0, *known)
    x = Scale(min(along), max(along), 48, width - 18)
    y = Scale(low, 100.0 if percent else padded(max(known)), 232, 28)
    up = "Share of images" if percent else "Loss" if len(names) > 1 else printable(names[0], 40)
    parts = left_axis(y, x.start, x.end, up, unit=unit)
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


def padded(value: float) -> float:
    """Return where an axis ends that shows `value`."""
    return round_up(value * 1.02)


def _is_share(values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(0 <= value <= 1 for value in known)


def _is_loss(name: str) -> bool:
    return name.rpartition(" ")[2] == "loss"


def _first(values: Sequence[float | None]) -> str:
    return next((f"{value:.1f}" for value in values if value is not None), "unknown")
