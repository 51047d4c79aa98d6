"""Pictures out of a results file: what a pruning does to accuracy and to backdoors, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detrojan.benchmark.results import Row
from detrojan.errors import DataError, OptionError
from detrojan.report.figures import Pair, pairs

_CURVE = ("units pruned", "clean accuracy", "attack success")


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
