"""TED: follow an input through the layers, and see when its neighbours are those of its answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from detrojan.errors import DataError, OptionError
from detrojan.guards.layers import chosen_layers, layers_of_values, pooled
from detrojan.guards.reading import CalibratedReader, Reader, Readings
from detrojan.guards.usual import finite_tensor
from detrojan.models.classifier import Classifier
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedTed(CalibratedReader):
    """TED bound to a model.

    Attributes:
        layers: names of the layers that are read, in the order in which they run.
        known: for each layer the values of R clean images, standardised, (R, D), float32.
        units: for each layer the mean and the deviation of each number, (2, D), float32.
        answers: the network's answers to the clean images, (R,), int64.

    """

    statistic: ClassVar[str] = "rank"

    layers: tuple[str, ...]
    known: tuple[torch.Tensor, ...] = field(repr=False)
    units: tuple[torch.Tensor, ...] = field(repr=False)
    answers: torch.Tensor = field(repr=False)

    def read(self, images: torch.Tensor) -> Readings:
        """Return each layer's values, and the answers."""
        values, labels = pooled(self.model, images, self.layers)
        return (*values, labels)

    def path(self, readings: Readings) -> torch.Tensor:
        """Return for each layer the rank of the nearest clean image with the same answer, (N, layers).

        It is the logarithm of 1 + rank, float64; the rank is 0 where that image is the nearest of all.
        """
        *values, labels = readings
        inside = [(one - unit[0]) / unit[1] for one, unit in zip(values, self.units, strict=True)]
        return _path(inside, labels, self.known, self.answers)

    def judged(self, readings: Readings) -> torch.Tensor:
        """Return the mean over the layers of the logarithm of 1 + rank, (N,)."""
        return self.path(readings).mean(1)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the clean images' values, and the layers' names."""
        tensors = {"answers": self.answers}
        for place, (known, units) in enumerate(zip(self.known, self.units, strict=True)):
            tensors |= {f"{place}.known": known, f"{place}.units": units}
        return tensors, {"layers": list(self.layers)}


@dataclass(frozen=True, kw_only=True)
class Ted(Reader[CalibratedTed]):
    """Follow an input through the layers, and call it backdoored if it comes late to its answer's class.

    In each layer the clean images are sorted by their distance. The rank of the nearest one with the same
    answer is noted. A clean input is near its class in most layers. A backdoored one is led from its own
    class to the target late. The score is the mean of the ranks' logarithms.

    It needs the network's layers, one forward per input, and a distance to each clean image in each layer.
    Labels are not used.

    Departures from the paper: a layer's values are each unit's mean and deviation over its map, so that
    distances cost little. The ranks over the layers are averaged as logarithms, instead of looked through
    for outliers by a principal component analysis. A clean image counts with the network's answer, right or
    wrong.

    Reference: Mo et al., Robust Backdoor Detection for Deep Learning via Topological Evolution Dynamics,
    IEEE Symposium on Security and Privacy 2024.

    Args:
        frr: false rejection rate that the boundary is set for, in (0, 0.5).
        layers: how many layers are read, spread over the network; 2 or more.

    """

    name = "ted"
    lets_through: ClassVar[str] = (
        "A small or blended picture, a bend, or a trigger that differs by image, mostly gets past it."
    )

    frr: float = 0.01
    layers: int = 12

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.layers < 2:
            raise OptionError(f"expected layers of 2 or more, got {self.layers}")

    def blank(self, model: Classifier, *, run: Run) -> CalibratedTed:
        """Return the guard before it knows any clean image."""
        del run  # nothing is drawn
        return CalibratedTed(
            model=model,
            method=self,
            threshold=0,
            clean_scores=torch.zeros(0, dtype=torch.float64),
            layers=chosen_layers(model, self.layers),
            known=(),
            units=(),
            answers=torch.zeros(0, dtype=torch.int64),
        )

    def taught(self, blank: CalibratedTed, readings: Readings) -> CalibratedTed:
        """Return the guard without a boundary."""
        *values, answers = readings
        units = [torch.stack([one.mean(0), one.std(0).clamp(min=1e-6)]) for one in values]
        inside = [(one - unit[0]) / unit[1] for one, unit in zip(values, units, strict=True)]
        return replace(blank, known=tuple(inside), units=tuple(units), answers=answers)

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedTed:
        """Rebuild the guard from its files."""
        model: Classifier = common["model"]
        layers, answers = layers_of_values(model, values), tensors.get("answers")
        if answers is None or answers.ndim != 1 or answers.dtype != torch.int64 or not len(answers):
            raise DataError("expected answers, one whole number per clean image")
        if not 0 <= int(answers.min()) <= int(answers.max()) < model.num_classes:
            raise DataError(f"expected answers of 0 to {model.num_classes - 1}")
        known, units = [], []
        for place in range(len(layers)):
            found = tensors.get(f"{place}.known")
            size = 0 if found is None or found.ndim != 2 else found.shape[1]
            known.append(finite_tensor(tensors, f"{place}.known", (len(answers), size), torch.float32))
            units.append(finite_tensor(tensors, f"{place}.units", (2, size), torch.float32))
            if not bool((units[-1][1] > 0).all()):
                raise DataError(f"expected deviations above 0 in {place}.units")
        return CalibratedTed(
            **common,
            layers=layers,
            known=tuple(known),
            units=tuple(units),
            answers=answers,
        )


def _path(
    values: list[torch.Tensor],
    labels: torch.Tensor,
    known: tuple[torch.Tensor, ...],
    answers: torch.Tensor,
) -> torch.Tensor:
    """Return the logarithms of 1 + rank, (N, layers), float64.

    Args:
        values: for each layer (N, D).
        labels: the answers to the N images.
        known: for each layer those of the clean images, (R, D).
        answers: the answers to these.

    """
    other = labels[:, None] != answers[None]
    found = []
    for one, clean in zip(values, known, strict=True):
        distances = torch.cdist(one, clean)
        nearest = distances.masked_fill(other, torch.inf).min(1).values
        ranks = (distances < nearest[:, None]).sum(1).double()
        found.append(ranks.log1p().where(distances.isnan().logical_not().all(1), torch.nan))
    return torch.stack(found, 1)
