"""Which labels stand out: the MAD anomaly index of Neural Cleanse and its variants."""

from __future__ import annotations

from typing import Literal

import torch

from detrojan.errors import OptionError

#: makes the median absolute deviation a standard deviation, for normal values
MAD_TO_SIGMA = 1.4826
Statistic = Literal["mad", "median"]


def median(values: torch.Tensor) -> float:
    """Return the true median: the mean of the two middle values where the count is even."""
    return float(torch.quantile(values.double(), 0.5))


def anomaly_indices(values: torch.Tensor, statistic: Statistic = "mad") -> torch.Tensor:
    """Return how far each value lies from the median, signed: positive below it.

    Args:
        values: one statistic per label (K,), e.g. the L1 of the recovered masks.
        statistic: "mad" divides the distance by 1.4826 * MAD, as Neural Cleanse does; "median"
            divides it by the median, as the CSAW report does.

    Raises:
        OptionError: another statistic.

    """
    if statistic not in {"mad", "median"}:
        raise OptionError(f"expected the statistic mad or median, got {statistic!r}")
    values = values.double()
    middle = median(values)
    distance = middle - values
    scale = MAD_TO_SIGMA * median(distance.abs()) if statistic == "mad" else middle
    # all values alike: nothing stands out, whatever rounding says
    return distance / scale if scale > 1e-9 * max(middle, 1e-9) else torch.zeros_like(distance)


def size_p_values(sizes: torch.Tensor, controls: torch.Tensor) -> torch.Tensor:
    """Return how likely so small a mask is for a label like the controls, corrected for all labels.

    The logarithm of each size is tested, one-sided, against the controls' (itself left out) by
    Student's t for one further observation; Bonferroni's correction multiplies by the number of
    labels. Sizes are positive and vary by factors, so their logarithms are nearer to normal.

    Args:
        sizes: L1 of the recovered masks (K,), in pixels.
        controls: which of them count as usual (K,), bool.

    Returns:
        p-values (K,) in [0, 1]; 1 where there are fewer than 3 controls.

    """
    from scipy import stats  # noqa: PLC0415 - takes longer to import than to use

    logs = sizes.double().clamp(min=1e-3).log()
    chances = torch.ones(len(sizes), dtype=torch.float64)
    for position in range(len(sizes)):
        others = controls.clone()
        others[position] = False
        usual = logs[others]
        if len(usual) < 3 or not float(usual.std()) > 0:
            continue
        spread = float(usual.std()) * (1 + 1 / len(usual)) ** 0.5
        score = float(logs[position] - usual.mean()) / spread
        chances[position] = min(1.0, len(sizes) * float(stats.t.cdf(score, len(usual) - 1)))
    return chances
