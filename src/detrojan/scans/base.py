"""What every scan of a model shares: preparing, refusing, and the result."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from detrojan.data.dataset import Dataset
from detrojan.findings import ScanResult
from detrojan.judging.preparing import Prepared, check_samples, prepare
from detrojan.judging.verdict import Judged
from detrojan.method import Method
from detrojan.models.blackbox import check_sees
from detrojan.models.classifier import Classifier
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class Scan(Method, ABC):
    """Base of the scans: each judges a model with a few clean images, labelled or not.

    A scan writes `judge`. What it needs of the images is said by class facts.

    Args:
        samples: images to use, half for searching, half held out; 20 or more.

    """

    #: whether images of other classes are needed to win over: a label without them is not tested then
    needs_victims: ClassVar[bool] = True

    samples: int = 600

    def __post_init__(self) -> None:
        """Refuse too few images."""
        check_samples(self.samples)

    @final
    def scan(
        self, model: Classifier, data: Dataset, *, run: Run, labels: Sequence[int] | None = None
    ) -> ScanResult:
        """Judge `model` on clean `data`, testing `labels` as targets (None: all).

        Labels of the data are used where the network agrees with them more than chance would;
        otherwise the network's own answers stand in. Nothing is tested if the network gives all images
        one answer.

        Args:
            model: the network to judge.
            data: clean images (N, C, H, W) in [0, 1], labelled or not.
            run: device, seed, progress, checkpoint.
            labels: the labels to test as targets.

        Raises:
            DataError: images of another shape, or fewer than 20.
            LabelError: a label beyond the model's classes.
            ModelError: a network that this method cannot work with.
            AnswersOnlyError: a model that only answers, and a method that needs more.

        """
        acting = self.acting(model)
        check_sees(acting, model)
        ready = prepare(
            model, data, labels, acting.samples, run, victims=acting.needs_victims, until=acting.until()
        )
        return ready.refusal() if ready.obstacle else ready.result(acting.judge(model, ready, run))

    def acting(self, model: Classifier) -> Scan:
        """Return the scan that judges `model`: this one, or another that it leaves such models to."""
        del model
        return self

    def until(self) -> float:
        """Return when the time of a scan that begins now is up, by the monotonic clock: never, by default."""
        return math.inf

    @abstractmethod
    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Return what is found of the labels in `ready.tested`.

        Args:
            model: the network to judge.
            ready: images, what stands for their truth, and the labels to test.
            run: device, seed, progress, checkpoint.

        """
