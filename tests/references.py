"""P-values written out from the papers, for comparison with ours."""

from __future__ import annotations

import math

from scipy import stats


def moderated_t_test(size: float, usual: list[float]) -> float:
    """Smyth's moderated t-test of one more observation; the prior spread of 0.3 is worth 6 observations."""
    logs = [math.log(value) for value in usual]
    count = len(logs)
    mean = sum(logs) / count
    squares = sum((value - mean) ** 2 for value in logs)
    variance = (squares + 6 * 0.3**2) / (count - 1 + 6)
    score = (math.log(size) - mean) / math.sqrt(variance + variance / count)
    return float(stats.t.cdf(score, count - 1 + 6))


def stouffer(first: float, second: float, correlation: float) -> float:
    """Stouffer's method for two p-values whose normal scores are correlated (Strube 1985)."""
    total = stats.norm.isf(first) + stats.norm.isf(second)
    return float(stats.norm.sf(total / math.sqrt(2 + 2 * correlation)))
