"""How often a score is reached: by counting clean scores, and by an exponential tail where few are left."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats

#: the tail begins where so large a share of the clean scores lies above
SHARE = 0.15
#: a tail of fewer scores is not fitted
FEWEST = 8
#: with this confidence the scores must not speak against the curve
_CONFIDENCE = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class Tail:
    """Clean scores, and the exponential curve that stands for the largest of them.

    Few clean scores lie beyond a boundary that one of a hundred reaches, and where they lie is chance. The
    curve is fitted to ten times as many. Scores that end somewhere, or that have a longer tail, do not
    follow it. Where their number beyond its boundary speaks against it, the boundary is counted.

    Attributes:
        scores: ascending (N,), float64.
        start: where the curve begins; infinite where too few scores are left to fit one.
        slope: the mean of what lies above the start, less the start.
        share: the share of the scores above the start.

    """

    scores: torch.Tensor
    start: float
    slope: float
    share: float

    @classmethod
    def of(cls, scores: torch.Tensor, share: float = SHARE) -> Tail:
        """Fit it to scores (N,), in any order."""
        ordered = scores.double().sort().values
        start = float(ordered[max(0, math.ceil((1 - share) * len(ordered)) - 1)])
        above = ordered[ordered > start] - start
        if len(above) < FEWEST:
            return cls(scores=ordered, start=math.inf, slope=1.0, share=0.0)
        # of N exchangeable scores a further one exceeds the k-th smallest with probability 1 - k / (N + 1)
        return cls(
            scores=ordered,
            start=start,
            slope=float(above.mean()),
            share=len(above) / (len(ordered) + 1),
        )

    def reached_by(self, frr: float) -> float:
        """Return what the score of a further clean input reaches with probability `frr`."""
        if frr >= self.share:
            return counted(self.scores, frr)
        limit = self.start + self.slope * math.log(self.share / frr)
        low, high = interval(int((self.scores >= limit).sum()), len(self.scores))
        return limit if low <= frr <= high else counted(self.scores, frr)


def interval(reached: int, count: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Return between which rates `reached` of `count` inputs speak for, by Clopper and Pearson."""
    found = stats.binomtest(reached, count).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def counted(ordered: torch.Tensor, frr: float) -> float:
    """Return what a further score reaches with probability `frr`, by counting.

    Of N exchangeable scores, a further one exceeds the k-th smallest with probability 1 - k / (N + 1);
    between them it is interpolated. Beyond the largest one the boundary lies just above it, and so it does
    above a score that many inputs share, where more than the asked share would reach it.

    Args:
        ordered: scores, ascending (N,), float64.
        frr: in (0, 1).

    """
    place = (len(ordered) + 1) * (1 - frr)
    low = math.floor(place)
    if low >= len(ordered):
        return float(torch.nextafter(ordered[-1], ordered.new_tensor(math.inf)))
    if low < 1:
        return float(ordered[0])
    limit = torch.lerp(ordered[low - 1], ordered[low], place - low)
    shared = int((ordered >= limit).sum()) > len(ordered) - low + 1
    return float(torch.nextafter(limit, ordered.new_tensor(math.inf)) if shared else limit)
