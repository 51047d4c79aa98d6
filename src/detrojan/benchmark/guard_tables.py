"""Many guards side by side: a table for each figure, with the average over the attacks and the worst one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from detrojan.benchmark.averages import DASH, mean, values
from detrojan.benchmark.parts import NONE
from detrojan.benchmark.results import Row
from detrojan.guards.tail import interval

#: fewer guards than these stand with all their figures in one table
FEWEST = 4
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class FigureTable:
    """One figure of several guards.

    Attributes:
        figure: its name.
        rows: texts, the attack's name first, then one for each guard.
        note: what the figure is.

    """

    figure: str
    rows: tuple[tuple[str, ...], ...]
    note: str


def side_by_side(rows: Sequence[Row]) -> list[str]:
    """Return the guards that get a table for each figure, in the order of the rows; none where few are."""
    found = list(dict.fromkeys(str(row["defence"]) for row in rows if row.get("room") == "guards"))
    return found if len(found) >= FEWEST else []


def figure_tables(rows: Sequence[Row], guards: Sequence[str]) -> list[FigureTable]:
    """Return AUROC, FRR and FAR of guards, one table each."""
    return [
        FigureTable(
            figure="AUROC",
            rows=_lines(rows, guards, "auroc", worst=min, clean=False),
            note="AUROC in percent, over all boundaries. Stamped images on which the attack fails count.",
        ),
        FigureTable(
            figure="FRR",
            rows=_lines(rows, guards, "frr", worst=None, clean=True),
            note="FRR: clean images that are refused, in percent, at the guard's own boundary. In brackets "
            "the 95% interval of Clopper and Pearson for the judging images of one seed.",
        ),
        FigureTable(
            figure="FAR",
            rows=_lines(rows, guards, "far", worst=max, clean=False),
            note="FAR: stamped images that are let through, in percent, at the guard's own boundary.",
        ),
    ]


def _lines(
    rows: Sequence[Row],
    guards: Sequence[str],
    figure: str,
    *,
    worst: Callable[[Sequence[float]], float] | None,
    clean: bool,
) -> tuple[tuple[str, ...], ...]:
    """Return a line for each attack (and for the clean network), then the average and the worst attack."""
    attacks = [name for name in dict.fromkeys(str(row["attack"]) for row in rows) if clean or name != NONE]
    found = {
        (attack, guard): [
            row.get("figures") or {}
            for row in rows
            if row["attack"] == attack and row["defence"] == guard and row["status"] == "done"
        ]
        for attack in attacks
        for guard in guards
    }
    lines = [(attack, *(_cell(found[attack, guard], figure) for guard in guards)) for attack in attacks]
    real = [attack for attack in attacks if attack != NONE]
    each = {
        guard: [fmean(of) for attack in real if (of := values(found[attack, guard], figure))]
        for guard in guards
    }
    whole = {guard: of if len(of) == len(real) > 1 else [] for guard, of in each.items()}
    if any(whole.values()):
        digits = 2 if figure == "frr" else 1
        lines.append(("average", *(mean([fmean(of)], digits) if of else "" for of in whole.values())))
        if worst is not None:
            lines.append(("worst", *(mean([worst(of)]) if of else "" for of in whole.values())))
    return tuple(lines)


def _cell(figures: Sequence[dict[str, Any]], figure: str) -> str:
    if not figures:
        return ""
    found = values(figures, figure)
    if figure != "frr":
        return mean(found)
    said, inputs = mean(found, 2), values(figures, "clean_inputs")
    if said == DASH or len(found) > 1 or len(inputs) != 1:
        return said
    count = round(inputs[0])
    low, high = interval(round(found[0] * count), count, _CONFIDENCE)
    return f"{said} ({100 * low:.1f} to {100 * high:.1f})"
