"""Figures out of rows, and how their means are written."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

DASH = "\u2013"


def values(figures: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Return a figure of every row that has it."""
    found = [one.get(name) for one in figures]
    return [float(value) for value in found if isinstance(value, int | float)]


def mean(found: Sequence[float], digits: int = 1) -> str:
    """Return shares' mean in percent, with the deviation where there are several."""
    if not found:
        return DASH
    spread = f"±{100 * stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{100 * fmean(found):.{digits}f}{spread}"
