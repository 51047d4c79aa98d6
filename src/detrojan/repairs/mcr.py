"""Mode connectivity repair: take a network from the middle of a path of low loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.learning.fitting import batch_norms
from detrojan.metrics.leads import leads
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repaired, times, worst_success
from detrojan.repairs.lessons import Lesson, lesson
from detrojan.repairs.patient import PatientTuning
from detrojan.repairs.tuning import bearable
from detrojan.run import Run

Weights = dict[str, torch.Tensor]
#: points of the path that are measured
POINTS = 11
#: at most so many batches from which a network on the path takes the statistics of its batch norms
BATCHES = 50


@dataclass(frozen=True, kw_only=True)
class MCR(PatientTuning):
    """Train a curve between two tuned copies on clean images, and take a network from its middle.

    Two copies are fine-tuned apart from each other, and a quadratic Bezier curve joins their weights. Its
    control point starts half-way between them and is trained so that every network on the curve answers
    clean images right. All of them do, but a backdoor, of which the training says nothing, is weakest
    between the ends. The networks are taught what the delivered network answers to the same images, each
    time changed and mixed with others in a new way. The paper teaches labels, and has many more images.
    Statistics of batch norms belong to one point of the curve. They are measured there, on images that are
    changed in the same way.

    A network without batch norms bears no high rate, nor does one whose last layer gets long features (a
    mean squared length above 400). The default costs it little, and leaves a backdoor as it is.

    Reference: Zhao et al., Bridging Mode Connectivity in Loss Landscapes and Adversarial Robustness,
    ICLR 2020.

    Args:
        epochs: passes over the clean data, for each end and again for the curve; 1 or more.
        learning_rate: of Adam, falling to 0 along a cosine; above 0. Halved where it breaks the network.
        batch_size: 2 or more.
        norm_rate: of SGD, used instead of Adam for a network with batch norms; above 0. Halved as well.
        updates: updates of each end and of the curve, at least: where the data are so few that
            `epochs` passes make fewer, there are more passes; 0 or more.
        norm_updates: the same for a network with batch norms; 0 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        norm_shift_pixels: the same for a network with batch norms; 0 or more.
        place: where on the curve the network is taken from, 0 to 1.

    """

    name = "mcr"

    epochs: int = 20
    learning_rate: float = 5e-4
    batch_size: int = 64
    norm_rate: float = 0.2
    updates: int = 200
    norm_updates: int = 800
    shift_pixels: int = 2
    norm_shift_pixels: int = 4
    place: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not 0 <= self.place <= 1:
            raise OptionError(f"expected a place in [0, 1], got {self.place:g}")

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` with the weights of a point on the curve; no trigger is needed."""
        taught = lesson(model, data, [finding.label for finding in findings])
        before = taught.kept(model)
        return bearable(self, taught, before, lambda how: how.attempt(model, taught, findings, run=run))

    def attempt(
        self, model: Classifier, taught: Lesson, findings: Sequence[Finding], *, run: Run
    ) -> Repaired:
        """Return a copy, repaired at the learning rate as it stands."""
        here = run.within("mcr")
        ends = [model.copy().to(run.device) for _ in range(2)]
        for number, end in enumerate(ends, start=1):
            self.teach(end, model, taught, run=here.within("end", number), title=f"MCR: end {number}")
        first, second = (weights_of(end.network) for end in ends)
        middle = ends[0].copy()
        put(middle.network, {name: weight.lerp(second[name], 0.5) for name, weight in first.items()})
        curve = Curve(middle.network, first, second)
        path = Classifier(curve, model.input_shape, preprocessing=model.preprocessing)
        history = self.teach(
            path,
            model,
            taught,
            run=here.within("curve"),
            title="MCR: curve",
            depends={"start": first, "end": second},
        )
        triggers = leads(findings)
        what = "clean accuracy" if taught.labelled else "agreement"
        measured: dict[str, list[float]] = {"place on the curve": [], what: []}
        if triggers:
            measured["attack success"] = []
        for place in torch.linspace(0, 1, POINTS).tolist():
            point = self._point(middle, curve, place, taught.images, run=here)
            measured["place on the curve"].append(place)
            measured[what].append(taught.kept(point))
            if triggers:
                measured["attack success"].append(worst_success(point, triggers, taught))
        how = self.fitting_for(model, taught.images)
        step = RepairStep(
            method=self.name,
            summary=(
                f"joined two copies, each fine-tuned on {len(taught.images)} clean images for "
                f"{times(how.epochs, 'epoch')}, and took the network at {self.place:g} of the curve"
            ),
            curves=measured,
            details=self.recorded(taught, history, how)["details"]
            | {"loss": [epoch.loss for epoch in history]},
        )
        return Repaired(model=self._point(middle, curve, self.place, taught.images, run=here), steps=(step,))

    def _point(
        self, model: Classifier, curve: Curve, place: float, images: torch.Tensor, *, run: Run
    ) -> Classifier:
        """Return the network at a place of the curve, its batch norms' statistics measured there."""
        point = model.copy().to(run.device)
        put(point.network, curve.weights(place))
        norms = batch_norms(point.network)
        if not norms:
            return point
        change, generator = self.changes(model, images), run.generator("statistics")
        epochs = self.fitting_for(model, images).epochs
        usual = [norm.momentum for norm in norms]
        point.network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        with torch.no_grad():
            for _ in range(min(BATCHES, epochs * max(1, len(images) // self.batch_size))):
                index = torch.randint(len(images), (self.batch_size,), generator=generator)
                point.logits(change(images[index], generator).to(run.device))
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
            norm.eval()
        return point


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
