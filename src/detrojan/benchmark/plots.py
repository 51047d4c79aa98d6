"""Pictures out of a results file: a pruning channel by channel, a trainer's losses by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detrojan.benchmark.results import Row
from detrojan.errors import DataError, OptionError
from detrojan.report.figures import Pair, loss_panels, pairs

_CURVE = ("units pruned", "clean accuracy", "attack success")


def picture(rows: Sequence[Row], defence: str) -> bytes:
    """Return what the defence's rows have to show, a pruning's curves or a training's losses, as PNG.

    Raises:
        OptionError: they have neither, or are of several data sets or networks.
        DataError: a curve that cannot be one.

    """
    known = {str(row["defence"]) for row in rows if _watched(row) or _judged(row)}
    if defence not in known:
        drawn = ", ".join(sorted(known)) or "(none)"
        raise OptionError(f"expected a defence with a curve to draw out of {drawn}, got {defence!r}")
    if any(row["defence"] == defence and _watched(row) for row in rows):
        return losses_picture(rows, defence)
    return pruning_picture(rows, defence)


def losses_picture(rows: Sequence[Row], defence: str) -> bytes:
    """Return the losses of clean and of poisoned samples along a training, a panel for each attack, as PNG.

    Args:
        rows: of a results file.
        defence: the name of the trainer in the plan; only its attacked rows are drawn.

    Raises:
        DataError: a row whose curves cannot be drawn.

    """
    groups: dict[str, tuple[list[float], list[float]]] = {}
    breaks: dict[str, list[int]] = {}
    several = len({row["seed"] for row in rows}) > 1
    for row in rows:
        steps = _watched(row) if row["defence"] == defence else []
        if not steps:
            continue
        poisoned, clean, ends = list[float](), list[float](), list[int]()
        for step in steps:
            bad, good = (step["curves"].get(name) for name in ("poisoned loss", "clean loss"))
            if not (_numbers(bad) and _numbers(good) and len(bad) == len(good)):
                raise DataError(
                    f"expected losses of clean and of poisoned samples of {row['attack']}, of one length"
                )
            poisoned += bad
            clean += good
            ends.append(len(clean))
        name = f"{row['attack']} (seed {row['seed']})" if several else str(row["attack"])
        groups[name] = (poisoned, clean)
        breaks[name] = ends[:-1]
    return loss_panels(groups, breaks=breaks)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) for value in values)


def _watched(row: Row) -> list[Any]:
    """Return the steps of a training that knew which samples are poisoned."""
    details = row.get("details")
    steps = details.get("steps") if isinstance(details, dict) else None
    return [
        step
        for step in (steps if isinstance(steps, list) else [])
        if isinstance(step, dict)
        and isinstance(step.get("curves"), dict)
        and "poisoned loss" in step["curves"]
    ]


def pruning_picture(rows: Sequence[Row], defence: str) -> bytes:
    """Return the curves along a pruning, a pair for each attack (and seed, where there are several), as PNG.

    Args:
        rows: of a results file, all of one data set and network.
        defence: the name of the defence in the plan.

    Raises:
        OptionError: no row of that defence has a curve, or they are of several data sets or networks.
        DataError: a row whose curve cannot be one.

    """
    found = [row for row in rows if row["defence"] == defence and _judged(row)]
    if not found:
        known = sorted({str(row["defence"]) for row in rows if _judged(row)})
        raise OptionError(
            f"expected a defence with a pruning curve out of {', '.join(known) or '(none)'}, got {defence!r}"
        )
    places = sorted({f"{row['data']}, {row['network']}" for row in found})
    if len(places) > 1:
        raise OptionError(f"expected results of one data set and network, got {'; '.join(places)}")
    several = len({row["seed"] for row in found}) > 1
    groups = {
        f"{row['attack']} (seed {row['seed']})" if several else str(row["attack"]): _pair(row)
        for row in found
    }
    layer = str(found[0]["details"]["judged"].get("layer"))
    about = found[0].get("about") or {}
    return pairs(
        groups,
        across="channels pruned, least active on clean images first",
        solid="attack success",
        dashed="clean accuracy",
        mark="where the defender stops",
        title="; ".join(
            (
                str(about.get("data") or found[0]["data"]),
                str(about.get("network") or found[0]["network"]),
                f"layer {layer}",
            )
        ),
    )


def _judged(row: Row) -> Any:
    details = row.get("details")
    judged = details.get("judged") if isinstance(details, dict) else None
    curve = judged.get("curve") if isinstance(judged, dict) else None
    return judged if isinstance(curve, dict) and "attack success" in curve else None


def _pair(row: Row) -> Pair:
    judged = _judged(row)
    x, clean, success = (judged["curve"].get(name) for name in _CURVE)
    plain = all(
        isinstance(values, list) and len(values) == len(x) and all(isinstance(v, int | float) for v in values)
        for values in (x, clean, success)
    )
    if not plain or not x:
        raise DataError(f"expected {', '.join(_CURVE)} of one length in the curve of {row['attack']}")
    chosen = judged.get("chosen")
    return Pair(x=x, solid=success, dashed=clean, mark=x.index(chosen) if chosen in x else None)
