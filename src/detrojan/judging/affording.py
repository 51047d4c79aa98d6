"""What a scan can afford before it begins to search: with little time, fewer images are asked about."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier

#: share of the time for each part: answers to the images, trials of the input range, a look at parts of them
ANSWERS, TRIALS, PARTS = 0.06, 0.03, 0.03
#: fewer images than these are no basis, however little time there is
LEAST_ANSWERS, LEAST_TRIALS, LEAST_PARTS = 64, 32, 32
#: images that the rate is measured with, after one that is not timed
TIMED = 4


@dataclass(frozen=True, kw_only=True)
class Afforded:
    """How many images each part of the preparation may ask about.

    Attributes:
        until: when the time is up, by the monotonic clock; infinite where there is no limit.
        rate: answers a second that were measured; infinite where there is no limit.
        seconds: that were left then.

    """

    until: float = math.inf
    rate: float = math.inf
    seconds: float = math.inf

    def images(self, share: float, least: int) -> float:
        """Return how many answers fit into a share of the time; at least so many, or infinite."""
        return max(least, self.rate * share * self.seconds) if math.isfinite(self.until) else math.inf

    @property
    def answers(self) -> float:
        """Images that are drawn."""
        return self.images(ANSWERS, LEAST_ANSWERS)

    @property
    def trials(self) -> float:
        """Images that ways of feeding are tried with, all ways together."""
        return self.images(TRIALS, LEAST_TRIALS)

    @property
    def parts(self) -> float:
        """Images that parts of large images are tried with."""
        return self.images(PARTS, LEAST_PARTS)


def afforded(model: Classifier, data: Dataset, until: float) -> Afforded:
    """Measure how fast a network answers, where there is a limit; it costs five answers.

    Args:
        model: the network.
        data: some images.
        until: when the time is up, by the monotonic clock; infinite for no limit.

    """
    if math.isinf(until):
        return Afforded()
    model.answers(data.images[:1])
    begun = time.monotonic()
    model.answers(data.images[:TIMED])
    now = time.monotonic()
    rate = len(data.images[:TIMED]) / max(now - begun, 1e-9)
    return Afforded(until=until, rate=rate, seconds=max(0.0, until - now))
