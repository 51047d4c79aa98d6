"""How surprising a guard's score is: minus the logarithm of its p-value among clean inputs' scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

#: the share of the clean scores that stand for the tail
_TAIL = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Surprise:
    """The scores of clean inputs as a measure: by counting, and an exponential tail above.

    Counting alone could not tell scores apart that lie beyond all clean ones.

    Attributes:
        scores: of clean inputs, ascending (N,), float64.

    """

    scores: torch.Tensor
    _start: float = field(init=False)
    _slope: float = field(init=False)

    def __post_init__(self) -> None:
        """Fit the tail."""
        start = float(self.scores[min(math.floor((1 - _TAIL) * len(self.scores)), len(self.scores) - 1)])
        above = self.scores[self.scores > start] - start
        spread = float(self.scores[-1] - self.scores[0])
        object.__setattr__(self, "_start", start)
        object.__setattr__(self, "_slope", float(above.mean()) if len(above) else max(spread, 1e-9))

    @classmethod
    def of(cls, scores: torch.Tensor) -> Surprise:
        """Make it of clean inputs' scores (N,), in any order."""
        return cls(scores=scores.double().sort().values)

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Return minus the natural logarithm of each score's p-value (N,), float64; NaN stays NaN."""
        scores = scores.double().contiguous()
        below = torch.searchsorted(self.scores, scores).double() / (len(self.scores) + 1)
        counted = -torch.log1p(-below.clamp(max=1 - _TAIL))
        beyond = -math.log(_TAIL) + (scores - self._start) / self._slope
        return torch.where(scores.isnan(), scores, torch.where(scores > self._start, beyond, counted))
