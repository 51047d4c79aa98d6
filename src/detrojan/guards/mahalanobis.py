"""Mahalanobis: how far a network's inner values lie from those of clean inputs with the same answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from detrojan.errors import OptionError
from detrojan.guards.layers import chosen_layers, layers_of_values, pooled
from detrojan.guards.reading import CalibratedReader, Reader, Readings
from detrojan.guards.usual import Usual, finite_tensor
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: a class's mean counts so many images of all classes among its own
_SHRINK = 1.0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedMahalanobis(CalibratedReader):
    """Mahalanobis distances bound to a model.

    Attributes:
        layers: names of the layers that are read.
        means: for each layer the usual values for each answer, (K, D), float64.
        usual: for each layer how clean inputs spread about them.

    """

    statistic: ClassVar[str] = "distance"

    layers: tuple[str, ...]
    means: tuple[torch.Tensor, ...] = field(repr=False)
    usual: tuple[Usual, ...] = field(repr=False)

    def read(self, images: torch.Tensor) -> Readings:
        """Return each layer's values, and the answers."""
        values, labels = pooled(self.model, images, self.layers)
        return (*values, labels)

    def distances(self, readings: Readings) -> torch.Tensor:
        """Return each layer's distance for what was read, (N, layers), float64: about 1 for clean inputs."""
        *values, labels = readings
        return torch.stack(
            [
                usual.distance(one.double() - mean[labels])
                for one, mean, usual in zip(values, self.means, self.usual, strict=True)
            ],
            1,
        )

    def judged(self, readings: Readings) -> torch.Tensor:
        """Return the mean distance over the layers (N,)."""
        return self.distances(readings).mean(1)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the means and distributions, and the layers' names."""
        tensors: dict[str, torch.Tensor] = {}
        for place, (mean, usual) in enumerate(zip(self.means, self.usual, strict=True)):
            tensors |= {f"{place}.means": mean, **usual.state(f"{place}.usual")}
        return tensors, {"layers": list(self.layers)}


@dataclass(frozen=True, kw_only=True)
class Mahalanobis(Reader[CalibratedMahalanobis]):
    """Measure how far an input's inner values lie from those of clean inputs with the same answer.

    A backdoor makes a network answer the target to what looks nothing like it inside. In the last layers
    each unit's mean and deviation over its map are taken. The distance is that of a normal distribution
    whose mean is the answered class's, and whose spread is common to all classes. Triggers that cover the
    whole image, and those that differ from image to image, are far from everything there.

    It needs the network's layers, and one forward per input. Labels are not used.

    Departures from the paper: a unit's deviation over its map counts beside its mean. The class is the
    answered one instead of the nearest. The layers count alike, since no bad inputs are known to weigh
    them with. The correlations are shrunk, as there are few clean images, and a class's mean is drawn to
    that of all.

    Reference: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks, NeurIPS 2018.

    Args:
        frr: false rejection rate that the boundary is set for, in (0, 0.5).
        layers: how many of the last layers are read; 1 or more.

    """

    name = "mahalanobis"
    lets_through: ClassVar[str] = (
        "A trigger that joins parts of two natural images, or bends the image, often gets past it."
    )

    frr: float = 0.01
    layers: int = 1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.layers < 1:
            raise OptionError(f"expected layers of 1 or more, got {self.layers}")

    def blank(self, model: Classifier, *, run: Run) -> CalibratedMahalanobis:
        """Return the guard before it has learned what is usual."""
        del run  # nothing is drawn
        return CalibratedMahalanobis(
            model=model,
            method=self,
            threshold=0,
            clean_scores=torch.zeros(0, dtype=torch.float64),
            layers=chosen_layers(model)[-self.layers :],
            means=(),
            usual=(),
        )

    def taught(self, blank: CalibratedMahalanobis, readings: Readings) -> CalibratedMahalanobis:
        """Return the guard without a boundary."""
        *values, labels = readings
        ones = torch.nn.functional.one_hot(labels, blank.model.num_classes).double()
        means, usual = [], []
        for one in values:
            doubled = one.double()
            sums = ones.T @ doubled + _SHRINK * doubled.mean(0)
            means.append(sums / (ones.sum(0)[:, None] + _SHRINK))
            usual.append(Usual.of(doubled - means[-1][labels]))
        return replace(blank, means=tuple(means), usual=tuple(usual))

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedMahalanobis:
        """Rebuild the guard from its files."""
        model: Classifier = common["model"]
        layers = layers_of_values(model, values)
        means, usual = [], []
        for place in range(len(layers)):
            found = tensors.get(f"{place}.means")
            size = 0 if found is None or found.ndim != 2 else found.shape[1]
            means.append(finite_tensor(tensors, f"{place}.means", (model.num_classes, size)))
            usual.append(Usual.restored(tensors, f"{place}.usual", size))
        return CalibratedMahalanobis(**common, layers=layers, means=tuple(means), usual=tuple(usual))
