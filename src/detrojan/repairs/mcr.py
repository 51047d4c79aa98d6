"""Mode connectivity repair: take a network from the middle of a path of low loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import (
    Lesson,
    Repaired,
    Tuning,
    bearable,
    lesson,
    times,
    worst_success,
)
from detrojan.run import Run

Weights = dict[str, torch.Tensor]
#: points of the path that are measured
POINTS = 11


@dataclass(frozen=True, kw_only=True)
class MCR(Tuning):
    """Train a curve between two tuned copies on clean images, and take a network from its middle.

    Two copies are fine-tuned apart from each other; a quadratic Bezier curve joins their weights,
    and its control point is trained so that every network on the curve answers clean images right.
    All of them do, but a backdoor, of which the training says nothing, is weakest between the ends.

    Reference: Zhao et al., Bridging Mode Connectivity in Loss Landscapes and Adversarial Robustness,
    ICLR 2020.

    Args:
        epochs: passes over the clean data, for each end and again for the curve; 1 or more.
        learning_rate: of Adam, falling to 0 along a cosine; above 0. Halved where it breaks the network.
        batch_size: 2 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        place: where on the curve the network is taken from, 0 to 1.

    """

    name = "mcr"

    epochs: int = 20
    learning_rate: float = 5e-3
    batch_size: int = 64
    shift_pixels: int = 2
    place: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.shift_pixels < 0 or not 0 <= self.place <= 1:
            raise OptionError(
                "expected shift_pixels of 0 or more and a place in [0, 1], "
                f"got {self.shift_pixels} and {self.place:g}"
            )

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` with the weights of a point on the curve; no trigger is needed."""
        taught = lesson(model, data, [finding.label for finding in findings], corrected=True)
        before = taught.kept(model)
        return bearable(self, taught, before, lambda how: how.attempt(model, taught, findings, run=run))

    def attempt(
        self, model: Classifier, taught: Lesson, findings: Sequence[Finding], *, run: Run
    ) -> Repaired:
        """Return a copy, repaired at the learning rate as it stands."""
        ends = []
        for number in (1, 2):
            end = model.copy().to(run.device)
            self.tune(
                end,
                taught.images,
                taught,
                run=run.within("mcr", "end", number),
                title=f"MCR: end {number}",
                shift_pixels=self.shift_pixels,
            )
            ends.append(weights_of(end.network))
        curve = Curve(model.copy().to(run.device).network, ends[0], ends[1])
        path = Classifier(curve, model.input_shape, preprocessing=model.preprocessing)
        history = self.tune(
            path,
            taught.images,
            taught,
            run=run.within("mcr", "curve"),
            title="MCR: curve",
            shift_pixels=self.shift_pixels,
        )
        pairs = [(finding.label, finding.trigger) for finding in findings if finding.trigger is not None]
        what = "clean accuracy" if taught.labelled else "agreement"
        measured: dict[str, list[float]] = {"place on the curve": [], what: []}
        if pairs:
            measured["attack success"] = []
        for place in torch.linspace(0, 1, POINTS).tolist():
            curve.place = place
            measured["place on the curve"].append(place)
            measured[what].append(taught.kept(path))
            if pairs:
                measured["attack success"].append(worst_success(path, pairs, taught.images, taught.truth))
        copy = model.copy().to(run.device)
        put(copy.network, curve.weights(self.place))
        step = RepairStep(
            method=self.name,
            summary=(
                f"joined two copies, each fine-tuned on {len(taught.images)} clean images for "
                f"{times(self.epochs, 'epoch')}, and took the network at {self.place:g} of the curve"
            ),
            curves=measured,
            details=self.recorded(taught, history)["details"] | {"loss": [epoch.loss for epoch in history]},
        )
        return Repaired(model=copy, steps=(step,))


class Curve(nn.Module):
    """A network whose weights lie on a quadratic Bezier curve; while it trains, at a random place.

    Args:
        middle: the network whose weights are the control point; they are trained.
        start: weights at place 0.
        end: weights at place 1.

    """

    def __init__(self, middle: nn.Module, start: Weights, end: Weights) -> None:
        super().__init__()
        self.middle = middle
        self.start, self.end = start, end
        self.place = 0.5

    def weights(self, place: float) -> Weights:
        """Return the weights at `place`, 0 to 1."""
        rest = 1 - place
        return {
            name: rest * rest * self.start[name] + 2 * place * rest * control + place * place * self.end[name]
            for name, control in self.middle.named_parameters()
        }

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of the network at the place."""
        place = self.place
        if self.training:
            # a training gives torch's own generator a stream of the run's: the same seed, the same places
            place = float(torch.rand((), generator=torch.default_generator))
        logits: torch.Tensor = torch.func.functional_call(self.middle, self.weights(place), (images,))
        return logits


def weights_of(network: nn.Module) -> Weights:
    """Return copies of all parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def put(network: nn.Module, weights: Weights) -> None:
    """Give a network other parameters, in place."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])
