"""What the probes share: scans that give each label a score and recover no trigger."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from detrojan.errors import OptionError
from detrojan.findings import Finding, ScanResult, VerdictText, confidence_in
from detrojan.judging.extremes import FEWEST_USUAL, Family, detectable, high_p_values
from detrojan.judging.outliers import anomaly_indices
from detrojan.judging.preparing import Prepared
from detrojan.judging.sizes import check_samples


def check_probe(significance: float, samples: int) -> None:
    """Refuse what no probe can work with.

    Raises:
        OptionError: significance outside (0, 1), or fewer than 20 samples.

    """
    if not 0 < significance < 1:
        raise OptionError(f"expected significance in (0, 1), got {significance:g}")
    check_samples(samples)


def probe_result(
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
) -> ScanResult:
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
    findings = tuple(
        _finding(label, indices[known[label]], chances[known[label]], significance if enough else 0.0)
        for label in ready.tested
    )
    targets = [finding.label for finding in findings if finding.flagged]
    usual = torch.tensor([label not in targets for label in labels])
    needed = detectable(scores[usual], significance, family)
    verdict, reason = _verdict(ready, targets, len(labels), what, shown(needed))
    return ScanResult(
        verdict=verdict,
        reason=reason,
        findings=findings,
        passes=passes,
        warnings=ready.warnings,
        details={
            "significance": significance,
            "detectable_from": needed if math.isfinite(needed) else None,
            "scores": {str(label): float(scores[known[label]]) for label in ready.tested},
            "answers": ready.how,
            "images": len(ready.images),
            "not_tested": ready.left_out,
            "range_trials": [vars(trial) for trial in ready.check.trials],
            **(details or {}),
        },
    )


def _finding(label: int, index: float, chance: float, significance: float) -> Finding:
    flagged = chance < significance
    return Finding(
        label=label,
        anomaly_index=index,
        p_value=chance,
        mask_l1=math.nan,
        attack_success=math.nan,
        flagged=flagged,
        # how often the trigger works is not known where none is recovered
        severity="medium" if flagged else "low",
        confidence=confidence_in(chance) if flagged else "low",
    )


def _verdict(
    ready: Prepared, targets: Sequence[int], labels: int, what: str, needed: str
) -> tuple[VerdictText, str]:
    looked = f"{len(ready.tested)} label{'s' if len(ready.tested) != 1 else ''} tested"
    if ready.check.doubtful:
        return "inconclusive", f"the input range is doubtful, and every figure with it ({looked})"
    if labels <= FEWEST_USUAL:
        return "inconclusive", f"{looked}; {FEWEST_USUAL + 1} or more are needed to say what is usual"
    if targets:
        names = ", ".join(map(str, targets))
        named = f"labels {names} have" if len(targets) > 1 else f"label {names} has"
        return "backdoored", f"{named} an abnormally high {what} ({looked})"
    return (
        "no evidence",
        f"no label has an abnormally high {what} ({looked}; {needed} or more would have been one)",
    )
