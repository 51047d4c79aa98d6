"""The chart of a guard's scores: how they spread, and where the boundary lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from detrojan.report.charts import WIDE, padded
from detrojan.report.svg import Scale, bottom_axis, drawing, left_axis, line, shape, short, trace, words
from detrojan.words import printable

#: css classes of the groups, the first that of clean inputs
BARS = ("bar usual", "bar flagged")


def histogram_chart(
    groups: Mapping[str, Sequence[float]],
    *,
    limit: float,
    axis: str,
    normal: tuple[float, float] | None = None,
    width: int = WIDE,
) -> Markup:
    """Return the shares of inputs by score, the boundary as a dashed line.

    Args:
        groups: finite scores by the name of the inputs, one or two groups, none empty.
        limit: the boundary.
        axis: what the scores are.
        normal: mean and standard deviation of a normal curve for the first group, or None.
        width: in pixels.

    """
    every = [value for values in groups.values() for value in values]
    low, high = min(0.0, limit, *every), max(limit, *every)
    high = padded(high) if high > 0 else 0.0
    high = high if high > low else low + 1
    x = Scale(low, high, 48, width - 18)
    bins = 40 if width > 500 else 20
    step = (high - low) / bins
    shares = {name: _shares(values, low, step, bins) for name, values in groups.items()}
    curve = _curve(normal, low, high, step) if normal is not None else []
    top = max(*map(max, shares.values()), max((share for _, share in curve), default=0.0))
    y = Scale(0, padded(100 * top), 212, 44)
    parts = left_axis(y, x.start, x.end, "Share of inputs", unit="%")
    for place, (name, heights) in enumerate(shares.items()):
        parts += _bars(x, y, heights, (low, step), place, len(shares), printable(name, 40))
    if curve:
        parts.append(trace([(x(value), y(100 * share)) for value, share in curve], "fit"))
    at = x(limit)
    right = at < width * 0.6
    parts += [
        line(at, 32, at, y(0), "limit"),
        words(
            at + (5 if right else -5), 36, f"boundary {limit:.3g}", "note halo", "start" if right else "end"
        ),
    ]
    parts += bottom_axis(x, y(0), axis, most=8 if width > 500 else 5)
    told = ", ".join(f"{len(values):,} {printable(name, 40)}" for name, values in groups.items())
    return drawing(width, 252, parts, f"Distribution of {axis}: {told}; boundary at {limit:.3g}.")


def _shares(values: Sequence[float], low: float, step: float, bins: int) -> list[float]:
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / step))] += 1
    return [count / len(values) for count in counts]


def _curve(normal: tuple[float, float], low: float, high: float, step: float) -> list[tuple[float, float]]:
    """Return points of the curve, in the share of inputs that a bin would have."""
    mean, std = normal
    if std < step / 4:
        return []  # a peak within a bin: no curve that could be drawn beside bars
    values = [low + (high - low) * n / 120 for n in range(121)]
    scale = step / (std * math.sqrt(2 * math.pi))
    return [(value, scale * math.exp(-(((value - mean) / std) ** 2) / 2)) for value in values]


def _bars(
    x: Scale, y: Scale, heights: Sequence[float], bins: tuple[float, float], place: int, of: int, name: str
) -> list[Markup]:
    """Return the bars of one group, beside those of the other one where there are two."""
    low, step = bins
    parts = []
    for number, share in enumerate(heights):
        if not share:
            continue
        start, end = x(low + number * step) + 0.5, x(low + (number + 1) * step) - 0.5
        part = (end - start) / of
        ends = " to ".join(short(round(low + (number + more) * step, 3)) for more in (0, 1))
        parts.append(
            shape(
                "rect",
                BARS[place % 2],
                f"{name}: {100 * share:.1f}% with {ends}",
                x=start + place * part,
                y=y(100 * share),
                width=part,
                height=y(0) - y(100 * share),
            )
        )
    return parts
