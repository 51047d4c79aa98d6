"""Tells from the stream of scores whether the guarded model is under attack, or its data have drifted.

Both tests are Shiryaev-Roberts sequences of likelihood ratios. While nothing has changed, such a sequence
less the number of inputs is a supermartingale. So it reaches the bound A once in A inputs on average, or more
rarely, however long it runs. What "nothing has changed" means allows for the finite number of clean inputs
that the guard was calibrated on.

- *Under attack*: more inputs are rejected than the calibration allows.
- *Drifted*: the scores of the inputs that pass are no longer spread as the calibrated ones are. An attack
  adds inputs at the suspicious end, most of which are rejected, and leaves the others as they are.
- *Attack or drift*: both. An attack that gets past the guard in part looks like this, and so do data that
  have moved towards the boundary. The advice is then not to calibrate again on what may be an attacker's
  inputs.

Reference: Pollak, Optimal Detection of a Change in Distribution, Annals of Statistics 1985; the sequences are
the e-detectors of Shin, Ramdas and Rinaldo, 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

State = Literal["usual", "under attack", "drifted", "attack or drift"]
#: probability that the calibrated inputs were so unlike the true ones that a bound on them does not hold
_CONFIDENCE = 0.99
#: how far an alternative lies on the way from the null share to 1
_STEPS = (0.05, 0.15, 0.4, 0.8)
#: shares of the calibrated scores at which the spread is watched: from below, and from above. The upper ones
#: are left out from above, as what an attack gets past the guard lies there
_BELOW, _ABOVE = (0.1, 0.25, 0.5, 0.75, 0.9), (0.1, 0.25, 0.5)
#: a sequence is cut off at this many times its bound, so that an alarm ends after the cause has ended
_CUT = 10.0


class Sequence:
    """Shiryaev-Roberts sequences of Bernoulli likelihood ratios, averaged.

    Args:
        null: (S,) for each kind of event its largest probability while nothing has changed, in (0, 1).
        bound: A; the average of the sequences reaches it once in A inputs or more rarely.

    """

    def __init__(self, null: NDArray[np.float64], bound: float) -> None:
        share = null[:, None] + (1 - null[:, None]) * np.asarray(_STEPS)
        self._happened, self._not = share / null[:, None], (1 - share) / (1 - null[:, None])
        self._values = np.zeros_like(share)
        self.bound = bound
        self.alarm = False

    @property
    def value(self) -> float:
        """The average of the sequences."""
        return float(self._values.mean())

    def add(self, events: NDArray[np.bool_]) -> None:
        """Take note of one input: which events (S,) have happened with it."""
        ratio = np.where(events[:, None], self._happened, self._not)
        self._values = np.minimum((self._values + 1) * ratio, _CUT * self.bound * self._values.size)
        # an alarm ends where the evidence has gone, not where it is just below the bound
        self.alarm = self.value >= (math.sqrt(self.bound) if self.alarm else self.bound)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How many inputs were judged, and how many of them were rejected."""

    inputs: int = 0
    rejected: int = 0


class Watch:
    """Compares the scores of inputs with those of the calibration.

    Args:
        clean_scores: of the calibration, (N,).
        threshold: at or above it an input is rejected.
        alarm_every: inputs per false alarm of each test, on average, at least; above 1.

    """

    def __init__(self, clean_scores: torch.Tensor, threshold: float, *, alarm_every: float) -> None:
        scores = np.sort(clean_scores.double().numpy())
        passed = scores[scores < threshold]
        rejected = len(scores) - len(passed)
        #: the most that clean inputs are rejected, by Clopper and Pearson
        self.usual_rejected = float(stats.beta.ppf(_CONFIDENCE, rejected + 1, max(len(passed), 1)))
        #: how far the spread of the passed scores may be from the true one (Dvoretzky, Kiefer, Wolfowitz)
        self.tolerance = math.sqrt(math.log(2 / (1 - _CONFIDENCE)) / (2 * max(len(passed), 1)))
        self._cuts, null = self._events(passed)
        self._rejections = Sequence(np.asarray([self.usual_rejected]), alarm_every)
        self._spread = Sequence(null, alarm_every) if len(null) else None
        self.counted = Counted()

    def _events(
        self, passed: NDArray[np.float64]
    ) -> tuple[tuple[NDArray[np.float64], ...], NDArray[np.float64]]:
        """Return the cuts that scores are counted below and above, and how often each may happen."""
        if not len(passed):
            return (np.empty(0), np.empty(0)), np.empty(0)
        below, above = np.quantile(passed, _BELOW), np.quantile(passed, _ABOVE)
        under = np.asarray([(passed <= cut).mean() for cut in below]) + self.tolerance
        over = np.asarray([(passed > cut).mean() for cut in above]) + self.tolerance
        low, high = under < 1, (over < 1) & (over > 0)
        return (below[low], above[high]), np.concatenate([under[low], over[high]])

    def add(self, scores: torch.Tensor, rejected: torch.Tensor) -> State:
        """Take note of inputs in the order in which they came.

        Args:
            scores: (n,).
            rejected: (n,), bool.

        Returns:
            The state after them.

        """
        below, above = self._cuts
        for score, bad in zip(scores.tolist(), rejected.tolist(), strict=True):
            self._rejections.add(np.asarray([bad]))
            if not bad and self._spread is not None:
                self._spread.add(np.concatenate([score <= below, score > above]))
        self.counted = Counted(
            inputs=self.counted.inputs + len(scores), rejected=self.counted.rejected + int(rejected.sum())
        )
        return self.state

    @property
    def state(self) -> State:
        """What is going on."""
        moved = self._spread is not None and self._spread.alarm
        if self._rejections.alarm:
            return "attack or drift" if moved else "under attack"
        return "drifted" if moved else "usual"

    @property
    def evidence(self) -> dict[str, float]:
        """How far each test is on its way to an alarm: the value over the bound, 1 or more for an alarm."""
        return {
            "rejections": self._rejections.value / self._rejections.bound,
            "spread": 0.0 if self._spread is None else self._spread.value / self._spread.bound,
        }


#: what a person should do in each state
ADVICE: dict[State, str] = {
    "usual": "Inputs are as they were at the calibration.",
    "under attack": (
        "More inputs are rejected than at the calibration, and the others are as usual: "
        "look at the rejected ones."
    ),
    "attack or drift": (
        "More inputs are rejected than at the calibration, and those that pass differ too: an attack may get "
        "past the guard in part, or the data have drifted. Look at the rejected ones, and calibrate again on "
        "none but inputs that you have looked at."
    ),
    "drifted": (
        "The inputs that pass are no longer like those of the calibration: calibrate the guard again on "
        "clean inputs of today."
    ),
}
