"""How well a detector tells bad from clean: false rejections, false acceptances, area under the curve.

A score that is no finite number counts as above every threshold: what a detector cannot measure it must
not let through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from detrojan.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What a detector does at one threshold, and over all of them.

    Attributes:
        frr: false rejection rate, the share of clean inputs that are called bad, 0 to 1.
        far: false acceptance rate, the share of bad inputs that are let through, 0 to 1.
        auroc: probability that a bad input's score is above a clean one's (ties count half), 0 to 1.
        clean: number of clean inputs.
        bad: number of bad inputs.

    """

    frr: float
    far: float
    auroc: float
    clean: int
    bad: int


def false_rejection_rate(clean: torch.Tensor, threshold: float) -> float:
    """Return the share of clean scores (N,) at or above `threshold`, 0 to 1.

    Raises:
        DataError: no scores.

    """
    return float((_checked(clean, "clean") >= threshold).double().mean())


def false_acceptance_rate(bad: torch.Tensor, threshold: float) -> float:
    """Return the share of bad inputs' scores (N,) below `threshold`, 0 to 1.

    Raises:
        DataError: no scores.

    """
    return float((_checked(bad, "bad") < threshold).double().mean())


def auroc(clean: torch.Tensor, bad: torch.Tensor) -> float:
    """Return the probability that a bad input scores above a clean one, ties counted half, 0 to 1.

    Args:
        clean: scores of clean inputs, (N,), higher where more suspicious.
        bad: scores of bad inputs, (M,).

    Raises:
        DataError: no scores.

    """
    ordered = _checked(clean, "clean").sort().values
    wanted = _checked(bad, "bad")
    below = torch.searchsorted(ordered, wanted, right=False)
    not_above = torch.searchsorted(ordered, wanted, right=True)
    return float((below + not_above).double().mean() / (2 * len(ordered)))


def detection(clean: torch.Tensor, bad: torch.Tensor, threshold: float) -> Detection:
    """Return all three figures for scores that are higher where more suspicious.

    Raises:
        DataError: no scores.

    """
    return Detection(
        frr=false_rejection_rate(clean, threshold),
        far=false_acceptance_rate(bad, threshold),
        auroc=auroc(clean, bad),
        clean=len(clean),
        bad=len(bad),
    )


def _checked(scores: torch.Tensor, name: str) -> torch.Tensor:
    if scores.ndim != 1 or not len(scores):
        raise DataError(f"expected one score per {name} input, got shape {tuple(scores.shape)}")
    scores = scores.detach().cpu().double()
    return scores.where(scores.isfinite(), math.inf)
