"""Direction pruning: shrink the weights along directions that clean images hardly excite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, ModelError, OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.learning.augmentation import blended, shift
from detrojan.metrics.leads import leads
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.directions import Directions, Moments, moments, shrink, weighted
from detrojan.repairs.base import Repair, Repaired, worst_success
from detrojan.repairs.lessons import Lesson, lesson
from detrojan.run import Run

#: the weakest and the strongest shrinking of the curve, as multiples of the mean power of a layer's inputs
WEAKEST, STRONGEST = 1e-2, 1e1
#: the curve's axis: the share of the pruned layers' weights, by their length, that is gone
SHRUNK = "weights shrunk"
#: fewer clean images than this cannot be halved
FEWEST = 4


@dataclass(frozen=True, kw_only=True)
class DirectionPruning(Repair):
    """Shrink the weights of the last layers along directions that clean images hardly excite.

    Channel pruning finds a backdoor that has channels of its own. Most backdoors are spread over channels
    that clean images use as well, in combinations that clean images do not use. Here the inputs of each
    layer on clean images are brought to their principal directions. A weight along a direction of power p
    (variance, in multiples of the mean one) is multiplied by p / (p + strength). That is the ridge
    regression of the layer's own answers on its clean inputs, so what clean images do not need goes first.
    It needs no trigger and no training.

    The strength is the highest at which clean accuracy (agreement with the delivered network, where there
    are no labels) has not yet fallen by more than `drop`. It is measured on the half of the images that the
    directions were not taken from, and the other way round. The repaired network has directions from all
    images. The images are shifted and blended with one another, since few images excite few directions.

    How much of a backdoor goes differs between networks: of four that differ in their faces only, 0, 0, 20
    and 99.7% of its success were left. A part of what is pruned may come back where the network is tuned
    afterwards.

    Reference: Liu et al., Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks, RAID 2018 (of channels); Hoerl and Kennard, Ridge Regression, Technometrics 1970.

    Args:
        layers: how many of the last layers with weights are pruned, 0 for half of them; 0 or more.
        drop: clean accuracy that may be lost, 0 to 1.
        points: strengths of the curve; 2 or more.
        samples: shifted and blended images that the directions are taken from, at least; 1 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.

    """

    name = "direction_pruning"

    layers: int = 0
    drop: float = 0.05
    points: int = 13
    samples: int = 2500
    shift_pixels: int = 2

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if not 0 <= self.drop <= 1:
            raise OptionError(f"expected a drop in [0, 1], got {self.drop:g}")
        if self.layers < 0 or self.points < 2 or self.samples < 1 or self.shift_pixels < 0:
            raise OptionError(
                "expected layers and shift_pixels of 0 or more, points of 2 or more and samples of 1 "
                f"or more, got {self.layers}, {self.shift_pixels}, {self.points} and {self.samples}"
            )

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` with shrunken weights.

        The findings only say what to leave out; where they carry triggers, their success is measured
        along the curve, and does not decide where to stop.

        Raises:
            DataError: images of another shape, or fewer than four.
            ModelError: no layer's directions can be pruned.

        """
        taught = lesson(model, data, [finding.label for finding in findings])
        if len(taught.images) < FEWEST:
            raise DataError(f"expected {FEWEST} or more clean images, got {len(taught.images)}")
        layers = self._layers(model)
        order = torch.randperm(len(taught.images), generator=run.generator(self.name, "halves"))
        halves = list(order.tensor_split(2))
        with run.progress.task("directions", len(halves)) as task:
            parts = []
            for half in halves:
                parts.append(self._moments(model, taught.images[half], layers, run))
                task.advance(1)
        both = {name: parts[0][name] + parts[1][name] for name in layers}
        whole = _directions(model, both)
        strengths = [0.0, *np.geomspace(WEAKEST, STRONGEST, self.points - 1).tolist()]
        curves = self._curve(strengths, model, taught, findings, parts, halves, whole, run)
        what = "clean accuracy" if taught.labelled else "agreement"
        kept = curves[what]
        chosen = next((n for n, share in enumerate(kept) if share < kept[0] - self.drop), len(kept)) - 1
        strength = strengths[chosen]
        copy = pruned(model, whole, strength)
        step = RepairStep(
            method=self.name,
            summary=(
                f"shrunk the weights of the last {len(layers)} layers along directions that clean images "
                f"hardly excite, by a strength of {strength:.3g}: {what} went from {kept[0]:.1%} to "
                f"{kept[chosen]:.1%}"
            ),
            curves=curves,
            details={
                "chosen": curves[SHRUNK][chosen],
                "strength": strength,
                "strengths": strengths,
                "layers": layers,
                "labelled": taught.labelled,
            },
        )
        return Repaired(model=copy, steps=(step,))

    def _layers(self, model: Classifier) -> list[str]:
        found = weighted(model)
        if not found:
            known = ", ".join(layer.name for layer in model.layers)
            raise ModelError(f"expected a network with a linear layer or a convolution, got {known}")
        return found[-(self.layers or max(1, len(found) // 2)) :]

    def _moments(
        self, model: Classifier, images: torch.Tensor, layers: list[str], run: Run
    ) -> dict[str, Moments]:
        generator = run.generator(self.name, "images")
        vary = blended(shift(self.shift_pixels))
        passes = max(1, round(self.samples / 2 / len(images)))
        varied = torch.cat([images, *(vary(images, generator) for _ in range(passes))])
        return moments(model, varied, layers, generator)

    def _curve(
        self,
        strengths: list[float],
        model: Classifier,
        taught: Lesson,
        findings: Sequence[Finding],
        parts: list[dict[str, Moments]],
        halves: list[torch.Tensor],
        whole: dict[str, Directions],
        run: Run,
    ) -> dict[str, list[float]]:
        """Return by how much each strength shrinks the weights, and what was measured then."""
        triggers = leads(findings)
        what = "clean accuracy" if taught.labelled else "agreement"
        curves: dict[str, list[float]] = {SHRUNK: [], what: []}
        if triggers:
            curves["attack success"] = []
        known = [_directions(model, part) for part in parts]
        judged = torch.zeros(len(taught.images), dtype=torch.bool)
        judged[taught.judged] = True
        with run.progress.task("pruning", len(strengths)) as task:
            for strength in strengths:
                right = 0
                for directions, half in zip(known, reversed(halves), strict=True):
                    some = half[judged[half]]
                    if len(some):
                        answers = pruned(model, directions, strength).answers(taught.images[some])
                        right += int((answers == taught.truth[some]).sum())
                curves[what].append(right / max(1, int(judged.sum())))
                trial = pruned(model, whole, strength)
                curves[SHRUNK].append(1 - _length(trial, whole) / _length(model, whole))
                if triggers:
                    curves["attack success"].append(worst_success(trial, triggers, taught))
                task.advance(1)
        return curves


def pruned(model: Classifier, found: dict[str, Directions], strength: float) -> Classifier:
    """Return a copy of `model` whose layers are shrunk along the directions of little power."""
    copy = model.copy()
    if strength > 0:
        for name, directions in found.items():
            shrink(copy, name, directions, strength)
    return copy


def _directions(model: Classifier, found: dict[str, Moments]) -> dict[str, Directions]:
    # without a bias to take up the mean, the mean is a direction like any other
    return {
        name: one.directions(centred=getattr(model.module(name), "bias", None) is not None)
        for name, one in found.items()
    }


def _length(model: Classifier, layers: Iterable[str]) -> float:
    weights = [model.network.get_parameter(f"{name}.weight").detach() for name in layers]
    squared = sum(float(weight.square().sum()) for weight in weights)
    return max(math.sqrt(squared), torch.finfo(torch.float32).tiny)
