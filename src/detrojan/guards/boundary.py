"""Where the boundary of STRIP lies: by a normal curve fitted to clean inputs' entropies, or by counting."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from scipy import stats

from detrojan.errors import DataError
from detrojan.guards.base import is_finite

Boundary = Literal["auto", "normal", "quantile"]

#: chance of so many (or few) rejections, or of so skewed entropies, under a fit that holds; lower, it is poor
POOR = 0.01
#: a boundary below so many bits is as good as none
NOTHING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Where the boundary lies, and how well a normal curve describes clean entropies.

    Attributes:
        mean: of the clean entropies, in bits.
        std: their standard deviation, in bits.
        normal: the boundary by the normal curve, in bits.
        quantile: the boundary by counting, in bits.
        used: which of the two was taken.
        rejected: share of the clean inputs at or below the normal boundary, 0 to 1.
        distance: largest gap between the normal and the measured distribution, 0 to 1.
        complaint: why the normal fit is poor, or empty.
        scale: what the entropies of the second half of the copies are multiplied by, so that the
            quantile of clean inputs is the same in both halves; 1 where all copies are mixed alike.

    """

    mean: float
    std: float
    normal: float
    quantile: float
    used: str
    rejected: float
    distance: float
    complaint: str
    scale: float = 1.0


def fitted(entropies: torch.Tensor, frr: float, boundary: Boundary) -> Fit:
    """Return both boundaries for clean inputs, and how well the normal one fits.

    Args:
        entropies: of clean inputs (N,), in bits.
        frr: false rejection rate that the boundary is set for, in (0, 0.5).
        boundary: which one is used; "auto" takes the normal one unless its fit is poor.

    """
    values = entropies.double()
    mean, std = float(values.mean()), float(values.std())
    normal = mean + float(stats.norm.ppf(frr)) * std
    below = int((values <= normal).sum())
    distance = float(stats.kstest(values.numpy(), "norm", (mean, max(std, 1e-12))).statistic)
    chance = stats.binomtest(below, len(values), frr).pvalue
    complaint = ""
    if normal <= 0:
        complaint = f"its boundary of {normal:.3f} bits would reject nothing"
    elif chance < POOR:
        complaint = f"it would reject {below / len(values):.2%} of them instead of {frr:.2%}"
    elif std > NOTHING and stats.skewtest(values.numpy()).pvalue < POOR:
        # few inputs lie in the tail, and they tell little; the whole shape tells more
        skewness = float(stats.skew(values.numpy()))
        longer = "above" if skewness > 0 else "below"
        complaint = f"the entropies have the longer tail {longer} their mean (skewness {skewness:.2f})"
    used = "quantile" if boundary == "quantile" or (complaint and boundary == "auto") else "normal"
    return Fit(
        mean=mean,
        std=std,
        normal=normal,
        quantile=float(values.quantile(frr)),
        used=used,
        rejected=below / len(values),
        distance=distance,
        complaint=complaint,
    )


def read_fit(values: Any) -> Fit:
    """Return the fit that a guard's file holds.

    Raises:
        DataError: other values, or numbers that no fit has.

    """
    texts = {"used", "complaint"}
    names = {one.name for one in fields(Fit)}
    if (
        not isinstance(values, dict)
        or not names - {"scale"} <= set(values) <= names
        or not all(isinstance(values[name], str) for name in texts)
        or not all(is_finite(value) for name, value in values.items() if name not in texts)
    ):
        raise DataError(f"expected the values of a fit, got {values!r:.80}")
    made = Fit(**values)
    if made.scale <= 0:
        raise DataError(f"expected a scale above 0 in the fit, got {made.scale:g}")
    return made
