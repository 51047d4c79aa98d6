"""Is the mean of a few numbers above a boundary? Bets say so after the first ones, with a stated error."""

from __future__ import annotations

import math

import torch

#: shares of the most that may be staked; one bet follows each of them
STAKES = (0.25, 0.5, 0.8)
#: a mean counts as no lower than this where its logarithm is taken
LEAST = 1e-12


def rounds(sizes: list[int]) -> list[int]:
    """Return after how many numbers the tests of rows of these sizes look: often at first, then rarer.

    Args:
        sizes: how many numbers the rows have, 1 or more each.

    """
    ends, most = [0], min(sizes)
    while ends[-1] < most:
        ends.append(min(most, ends[-1] + max(1, ends[-1] // 4)))
    return sorted({*ends[1:], *sizes})


def spreads(numbers: torch.Tensor, ends: list[int]) -> list[float]:
    """Return how far running means lie from the whole one: the root mean square of their logarithms' gap.

    Args:
        numbers: of clean inputs (N, copies), 0 or more.
        ends: how many of them the running means are made of.

    """
    means = torch.stack([numbers[:, :end].mean(1) for end in ends], 1).clamp(min=LEAST).log()
    apart: list[float] = (means - means[:, -1:]).square().mean(0).sqrt().clamp(min=1e-6).tolist()
    return apart


class Bets:
    """Tests for many rows of non-negative numbers at once whether each row's mean lies above a boundary.

    A row has `most` numbers, in a random order. A part of a wealth of 1 is staked on each: that it is higher
    than it would be if the mean of all were the boundary. Then those that are left have the mean
    (most * boundary - sum of the others) / left, and the odds are fair. If the mean is at or below the
    boundary, no gain is to be expected. So the wealth reaches 1 / `error` once in 1 / `error` orders at most,
    however often it is looked at (Ville's inequality).

    Reference: Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting, JRSS B 2024.

    Args:
        boundary: what the mean is compared with.
        most: how many numbers each row has (R,), int64, 1 or more.
        error: the probability with which a row whose mean is at or below the boundary may be called above.

    """

    def __init__(self, boundary: float, most: torch.Tensor, error: float) -> None:
        self.boundary, self.most, self.error = boundary, most.double(), error
        rows = len(most)
        self._stakes = torch.tensor(STAKES, dtype=torch.float64)
        self._sums, self._count = (
            torch.zeros(rows, dtype=torch.float64),
            torch.zeros(rows, dtype=torch.float64),
        )
        self._wealth = torch.ones(rows, len(STAKES), dtype=torch.float64)

    def add(self, rows: torch.Tensor, numbers: torch.Tensor) -> None:
        """Take note of the next numbers (len(rows), n) of some rows (int64)."""
        sums, count, wealth = self._sums[rows], self._count[rows], self._wealth[rows]
        whole, most = self.most[rows] * self.boundary, self.most[rows]
        for number in numbers.double().unbind(1):
            fair = (whole - sums) / (most - count)
            odds = torch.where((number == 0) & (fair == 0), 1.0, number / fair)
            gain = 1 + self._stakes * (odds[:, None] - 1)
            # the sum is used up: the numbers that are left would have to be below 0
            wealth = torch.where(fair[:, None] < 0, math.inf, wealth * gain)
            sums, count = sums + number, count + 1
        self._sums[rows], self._count[rows], self._wealth[rows] = sums, count, wealth

    @property
    def means(self) -> torch.Tensor:
        """The mean of what is known of each row, (R,), float64; NaN where nothing is."""
        return self._sums / self._count

    @property
    def ended(self) -> torch.Tensor:
        """Which rows have no more numbers, (R,), bool."""
        return self._count >= self.most

    @property
    def above(self) -> torch.Tensor:
        """Which rows are called above the boundary, (R,), bool; at their end it is what they are."""
        sure = (self._wealth.mean(1) >= 1 / self.error) & (self.means > self.boundary)
        return torch.where(self.ended, self.means > self.boundary, sure)

    def deficit(self, spread: torch.Tensor) -> torch.Tensor:
        """Return how far below the boundary the rows' means are (R,), in `spread` of their logarithm.

        Args:
            spread: for each row (R,), above 0.

        """
        if self.boundary < LEAST:
            return torch.full_like(spread, -math.inf)
        return (math.log(self.boundary) - self.means.clamp(min=LEAST).log()) / spread
