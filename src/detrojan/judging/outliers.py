"""Which labels stand out: the MAD anomaly index of Neural Cleanse and its variants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from detrojan.errors import OptionError

#: makes the median absolute deviation a standard deviation, for normal values
MAD_TO_SIGMA = 1.4826
Statistic = Literal["mad", "median"]
#: standard deviation of the logarithm of a usual label's size, as networks commonly have it (measured
#: on clean ones: 0.15 to 0.4), and how many observations that knowledge is worth
PRIOR_SPREAD, PRIOR_FREEDOM = 0.3, 6
#: deviations above the median beyond which a usual size is not taken at its word
MOST_ABOVE = 2.0


def median(values: torch.Tensor) -> float:
    """Return the true median: the mean of the two middle values where the count is even."""
    return float(torch.quantile(values.double(), 0.5))


def finite_median(values: torch.Tensor) -> float:
    """Return the median of the finite values; infinite where there is none."""
    finite = values[values.isfinite()]
    return median(finite) if len(finite) else math.inf


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
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

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
        chances[position] = min(1.0, len(sizes) * float(special.stdtr(len(usual) - 1, score)))
    return chances


def small_p_values(sizes: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
    """Return how likely so small a size is for something like the usual ones.

    The logarithm of each size is tested against the usual ones' (itself left out) by a moderated
    t-test for one further observation: their variance is averaged with a prior one, since half a
    dozen labels hardly show their own. Sizes far above the others, infinite ones among them, say
    nothing of how small a size may be; they count as `MOST_ABOVE` deviations above the median.

    Reference: Smyth, Linear Models and Empirical Bayes Methods for Assessing Differential Expression
    in Microarray Experiments, 2004.

    Args:
        sizes: (J,), above 0; infinite where nothing worked.
        usual: which of them show what is usual (J,), bool; each is left out of its own test.

    Returns:
        p-values (J,) in (0, 1], not corrected; 1 where fewer than 3 usual sizes are finite.

    """
    logs = sizes.double().clamp(min=1e-3).log()
    chances = torch.ones(len(sizes), dtype=torch.float64)
    for place in range(len(sizes)):
        others = usual.clone()
        others[place] = False
        if bool(logs[place].isfinite()) and int(logs[others].isfinite().sum()) >= 3:
            chances[place] = _chance_of(float(logs[place]), without_giants(logs[others]))
    return chances


def without_giants(logs: torch.Tensor) -> torch.Tensor:
    """Return the values, those far above the others, infinite ones among them, brought down.

    Args:
        logs: (J,), at least one of them finite.

    """
    finite = logs[logs.isfinite()]
    middle = median(finite)
    spread = MAD_TO_SIGMA * median((finite - middle).abs())
    return logs.clamp(max=middle + MOST_ABOVE * max(spread, 1e-6))


def high_p_values(scores: torch.Tensor, prior: float, natural: torch.Tensor) -> torch.Tensor:
    """Return how likely so high a score is for something like all others.

    Each score is tested against the others by the moderated t-test of `small_p_values`. Scores far below
    the others count as `MOST_ABOVE` deviations below their median.

    Args:
        scores: (J,), finite; about normal where nothing is wrong.
        prior: standard deviation that such scores commonly have, above 0.
        natural: standard deviation of how much higher each may be for a known reason (J,), 0 or more.

    Returns:
        p-values (J,) in (0, 1], not corrected; 1 where there are fewer than 3 others.

    """
    turned = -scores.double()
    chances = torch.ones(len(scores), dtype=torch.float64)
    for place in range(len(scores)):
        others = torch.cat([turned[:place], turned[place + 1 :]])
        if len(others) >= 3:
            known, more = without_giants(others), float(natural[place])
            chances[place] = _chance_of(float(turned[place]), known, prior, more)
    return chances


def _chance_of(value: float, known: torch.Tensor, prior: float = PRIOR_SPREAD, natural: float = 0.0) -> float:
    """Return how likely one more observation like the known ones is as small as `value`."""
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    spread, freedom = _spread_of_one_more(known, prior)
    return float(special.stdtr(freedom, (value - float(known.mean())) / math.hypot(spread, natural)))


def _spread_of_one_more(known: torch.Tensor, prior: float = PRIOR_SPREAD) -> tuple[float, int]:
    """Return the moderated standard deviation of one further observation, and its degrees of freedom."""
    own = len(known) - 1
    variance = (own * float(known.var()) + PRIOR_FREEDOM * prior**2) / (own + PRIOR_FREEDOM)
    return (variance * (1 + 1 / len(known))) ** 0.5, own + PRIOR_FREEDOM


def size_limit(usual: torch.Tensor, chance: float) -> float:
    """Return the size whose p-value by `small_p_values` is `chance`.

    Args:
        usual: sizes that show what is usual (J,); infinite where nothing worked.
        chance: not corrected, in (0, 1).

    Returns:
        0 where fewer than 3 usual sizes are finite.

    """
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    logs = usual.double().clamp(min=1e-3).log()
    if int(logs.isfinite().sum()) < 3:
        return 0.0
    known = without_giants(logs)
    spread, freedom = _spread_of_one_more(known)
    return math.exp(float(known.mean()) + spread * float(special.stdtrit(freedom, chance)))


def deviations_below(size: float, usual: torch.Tensor) -> float:
    """Return the robust standard deviations that a size's logarithm lies below the usual ones' median.

    Args:
        size: above 0.
        usual: sizes (J,); infinite ones are left out.

    Returns:
        0 or more; 0 where the size is infinite or no usual size is finite.

    """
    logs = usual[usual.isfinite()].double().clamp(min=1e-3).log()
    if not len(logs) or not math.isfinite(size):
        return 0.0
    middle = median(logs)
    spread = MAD_TO_SIGMA * median((logs - middle).abs())
    return max(0.0, (middle - math.log(max(size, 1e-3))) / max(spread, PRIOR_SPREAD / 10))


def rank_p_values(scores: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return how likely a label's ranks in several scores together are, if nothing is wrong with it.

    Each score becomes a normal score by its rank, so that no score counts for more than its order;
    the sum's variance comes from the normal scores' correlations over all labels. Not corrected for
    the number of labels.

    Reference: Strube, Combining and Comparing Significance Levels from Nonindependent Hypothesis Tests,
    Psychological Bulletin 1985.

    Args:
        scores: one tensor (K,) per score, high is suspicious; two labels or more.

    Returns:
        p-values (K,) in (0, 1).

    """
    from scipy import stats  # noqa: PLC0415 - takes longer to import than to use

    rows = []
    for values in scores:
        places = torch.from_numpy(stats.rankdata(values.double().numpy()))
        rows.append(torch.from_numpy(stats.norm.ppf(((places - 0.5) / len(values)).numpy())))
    normal = torch.stack(rows)
    likeness = torch.corrcoef(normal).nan_to_num(0.0) if len(rows) > 1 else torch.ones(1, 1)
    sums = normal.sum(0) / likeness.sum().clamp(min=len(rows)).sqrt()
    return torch.from_numpy(stats.norm.sf(sums.numpy()))


def combined_p_values(first: torch.Tensor, second: torch.Tensor, correlation: float) -> torch.Tensor:
    """Return the p-values of two pieces of evidence together, which may be correlated.

    Stouffer's method with the variance of correlated normal scores.

    Reference: Strube, Psychological Bulletin 1985.

    Args:
        first: p-values (J,), in (0, 1].
        second: likewise.
        correlation: of the two statistics where nothing is wrong, 0 to 1.

    """
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    scores = [-special.ndtri(part.double().clamp(1e-300, 1 - 1e-9).numpy()) for part in (first, second)]
    return torch.from_numpy(special.ndtr(-(scores[0] + scores[1]) / (2 + 2 * correlation) ** 0.5))
