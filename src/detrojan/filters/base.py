"""What every filter of a data set shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError, OptionError
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: a class with fewer samples than this is not judged
FEWEST = 10


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What a filter thinks of each sample.

    Attributes:
        scores: higher where more suspicious, (N,) float64.
        flagged: which samples are taken for poisoned, (N,) bool.
        classes: per judged class plain values that say why, by label.
        warnings: what the reader must know.

    """

    scores: torch.Tensor
    flagged: torch.Tensor
    classes: dict[int, dict[str, Any]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def positions(self) -> torch.Tensor:
        """Positions of the flagged samples, the most suspicious first, (I,) int64."""
        order = self.scores.argsort(descending=True, stable=True)
        return order[self.flagged[order]]


@dataclass(frozen=True, kw_only=True)
class Filter(Method, ABC):
    """Base of the filters: each looks at a data set through a network that was trained on it."""

    layer: str = ""

    @abstractmethod
    def suspect(self, data: Dataset, *, model: Classifier, run: Run) -> Suspects:
        """Score every sample of labelled `data`, seen by a `model` that was trained on these data."""

    def limits(self, flagged: int) -> tuple[str, ...]:
        """Return what the answer cannot say, in sentences, where `flagged` samples were flagged."""
        if flagged:
            return ()
        return (
            (
                "Nothing flagged does not mean nothing poisoned: a filter sees what lies apart from the rest "
                "of its class. Poison with true labels (clean-label), or spread so that no class has a small "
                "group of it, need not lie apart."
            ),
        )

    def features(self, model: Classifier, data: Dataset) -> torch.Tensor:
        """Return what the filter looks at: the penultimate features, or a layer's output, (N, D) float64.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.
            DataError: images of another shape.
            ModelError: no such layer.

        """
        labels = data.require_labels("a filter")
        if int(labels.max()) >= model.num_classes:
            raise LabelError(
                f"expected labels of 0 to {model.num_classes - 1} as the model's classes, "
                f"got up to {int(labels.max())}"
            )
        return model.activations(data.images, self.layer or None).flatten(1).double()


def each_class(data: Dataset, warnings: list[str]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each label with the positions of its samples; a class of too few samples is only warned of."""
    labels = data.require_labels("a filter")
    few = []
    for label in sorted(set(labels.tolist())):
        places = (labels == label).nonzero().flatten()
        if len(places) < FEWEST:
            few.append(label)
            continue
        yield label, places
    if few:
        named = ", ".join(map(str, few[:10])) + (", ..." if len(few) > 10 else "")
        warnings.append(f"classes with fewer than {FEWEST} samples are not judged: {named}")


def check_share(name: str, value: float) -> None:
    """Refuse what is no share in (0, 1).

    Raises:
        OptionError: it is not.

    """
    if not 0 < value < 1:
        raise OptionError(f"expected {name} in (0, 1), got {value:g}")
