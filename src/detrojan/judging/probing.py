"""What the probes share: scans that give each label a score and recover no trigger."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from detrojan.errors import OptionError
from detrojan.findings import Criterion
from detrojan.judging.extremes import FEWEST_USUAL, Family, detectable, high_p_values
from detrojan.judging.outliers import anomaly_indices
from detrojan.judging.preparing import Prepared
from detrojan.judging.verdict import Case, Judged, finding, high, labels_tested


def check_significance(significance: float) -> None:
    """Refuse what is no p-value to decide by.

    Raises:
        OptionError: outside (0, 1).

    """
    if not 0 < significance < 1:
        raise OptionError(f"expected significance in (0, 1), got {significance:g}")


def judged_by_score(
    ready: Prepared,
    labels: Sequence[int],
    scores: torch.Tensor,
    *,
    significance: float,
    what: str,
    family: Family = "normal",
    shown: Callable[[float], str] = "{:.3g}".format,
    passes: int = 0,
    details: dict[str, Any] | None = None,
) -> Judged:
    """Return what a score per label says.

    Args:
        ready: what the scan was prepared with.
        labels: the label of each score; those of `ready.tested` get a finding.
        scores: high is suspicious (K,).
        significance: p-value, corrected for all `labels`, below which a label is flagged.
        what: the score in words, e.g. "margin over the other labels".
        family: how usual scores are distributed.
        shown: puts a score in words.
        passes: forward+backward passes of one sample that were spent.
        details: what else the report shows.

    """
    chances = high_p_values(scores, family).tolist()
    indices = (-anomaly_indices(scores)).clamp(min=0).tolist()
    known = {label: place for place, label in enumerate(labels)}
    enough = len(labels) > FEWEST_USUAL
    flagged = {label: enough and chances[known[label]] < significance for label in ready.tested}
    targets = [label for label in ready.tested if flagged[label]]
    needed = detectable(
        scores[torch.tensor([label not in targets for label in labels])], significance, family
    )
    looked = labels_tested(len(ready.tested))
    return Judged(
        findings=tuple(
            finding(label, index=indices[known[label]], chance=chances[known[label]], flagged=flagged[label])
            for label in ready.tested
        ),
        case=Case(
            looked=looked,
            doubtful=ready.check.doubtful,
            too_few="" if enough else f"{FEWEST_USUAL + 1} or more are needed to say what is usual",
            targets=targets,
            sign=high(what),
            limits=[f"{shown(needed)} or more would have been one"],
        ),
        criterion=Criterion(statistic=what, direction="high", decides="p-value", significance=significance),
        passes=passes,
        details={
            "significance": significance,
            "detectable_from": needed if math.isfinite(needed) else None,
            "scores": {str(label): float(scores[known[label]]) for label in ready.tested},
            **_images_used(ready),
            **(details or {}),
        },
    )


def _images_used(ready: Prepared) -> dict[str, int]:
    """Return how many images were looked at; nothing is searched, so that nothing is held out."""
    return {"images": len(ready.images), "held_out": 0}
