"""The few shapes that our charts are drawn with, as inline SVG.

Colours are CSS classes of the page, so that a chart follows light, dark and print. Every text is
escaped: names come from files that an attacker wrote.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

#: the width of a digit of a tick, in pixels
LETTER = 7.0


@dataclass(frozen=True)
class Scale:
    """Maps values of `low` to `high` onto pixels of `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of `value`."""
        return self.start + (value - self.low) / ((self.high - self.low) or 1) * (self.end - self.start)

    def ticks(self, most: int = 6, *, whole: bool = False) -> list[float]:
        """Return at most about `most` round values within the range, ascending; `whole` ones for counts."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(power * m for m in (1, 2, 2.5, 5, 10, 20) if span / (power * m) <= most)
        step = max(1.0, float(math.ceil(step))) if whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_up(value: float) -> float:
    """Return the next round number at or above `value`, for the end of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * m for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if value <= power * m * (1 + 1e-9))


def short(value: float) -> str:
    """Return a tick's text: no needless decimals, thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:g}"


def shape(tag: str, css: str = "", title: str = "", **attributes: float | str) -> Markup:
    """Return one SVG element; underscores in names become hyphens, `title` is shown on hover."""
    parts = [f"<{tag}"]
    if css:
        parts.append(f' class="{escape(css)}"')
    for name, value in attributes.items():
        shown = f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(value)
        parts.append(f' {name.replace("_", "-")}="{shown}"')
    parts.append(f"><title>{escape(title)}</title></{tag}>" if title else "/>")
    return Markup("".join(parts))  # noqa: S704 - every value above is a number or escaped


def words(x: float, y: float, text: str, css: str = "", anchor: str = "start", title: str = "") -> Markup:
    """Return a text at (x, y); `anchor` is "start", "middle" or "end"."""
    hover = Markup("<title>{}</title>").format(title) if title else ""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}{}</text>').format(
        css, f"{x:.1f}", f"{y:.1f}", anchor, text, hover
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """Return a straight line."""
    return shape("line", css, x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2))


def dots(points: Sequence[tuple[float, float]], css: str) -> Markup:
    """Return many dots as one path (a stroke of no length with round ends): small, and fast."""
    drawn = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return shape("path", css, d=drawn) if drawn else Markup()


def trace(points: Sequence[tuple[float, float | None]], css: str) -> Markup:
    """Return a line through points; it breaks where y is None."""
    drawn, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        drawn.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return shape("path", css, d="".join(drawn)) if drawn else Markup()


def drawing(width: int, height: int, parts: Sequence[Markup], label: str, css: str = "") -> Markup:
    """Return a whole drawing; `label` tells those who cannot see it what it shows."""
    return Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        css, width, height, label, Markup().join(parts)
    )


def left_axis(
    scale: Scale,
    left: float,
    right: float,
    title: str,
    *,
    unit: str = "",
    most: int = 5,
    whole: bool = False,
    shown: Callable[[float], str] = short,
) -> list[Markup]:
    """Return a vertical axis: faint lines across, its numbers, and its title above."""
    parts = [words(0, 11, title, "axis-title")]
    for tick in scale.ticks(most, whole=whole):
        y = scale(tick)
        parts.append(line(left, y, right, y, "grid"))
        parts.append(words(left - 6, y + 4, shown(tick) + unit, "tick", "end"))
    return parts


def bottom_axis(
    scale: Scale,
    y: float,
    title: str,
    *,
    most: int = 7,
    whole: bool = False,
    shown: Callable[[float], str] = short,
) -> list[Markup]:
    """Return a horizontal axis at height `y` with its numbers and, below, its title.

    It has as many numbers as there is room for, `most` or fewer: none covers another.
    """
    parts = [line(scale.start, y, scale.end, y, "axis")]
    for tick in _apart(scale, most, whole=whole, shown=shown):
        parts.append(line(scale(tick), y, scale(tick), y + 4, "axis"))
        parts.append(words(scale(tick), y + 17, shown(tick), "tick", "middle"))
    parts.append(words((scale.start + scale.end) / 2, y + 34, title, "axis-title", "middle"))
    return parts


def _apart(scale: Scale, most: int, *, whole: bool, shown: Callable[[float], str]) -> list[float]:
    """Return the ticks of an axis whose texts leave each other room."""
    for count in range(most, 1, -1):
        ticks = scale.ticks(count, whole=whole)
        room = abs(scale(ticks[1]) - scale(ticks[0])) if len(ticks) > 1 else math.inf
        if room >= LETTER * max((len(shown(tick)) for tick in ticks), default=0) + LETTER:
            return ticks
    return scale.ticks(1, whole=whole)
