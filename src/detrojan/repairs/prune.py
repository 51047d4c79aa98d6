"""Trigger-guided pruning: remove the neurons that the recovered trigger excites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.units import curve_points, per_unit, remove_units
from detrojan.repairs.base import Repair, Repaired, with_triggers
from detrojan.repairs.lessons import Lesson, lesson
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor

#: most points of a curve whose every point runs the whole network
POINTS = 40


@dataclass(frozen=True, kw_only=True)
class Prune(Repair):
    """Remove neurons in the order in which the recovered trigger excites them, strongest first.

    Neurons are ranked by how much more active they are on stamped than on clean images. Penultimate ones
    are also ranked by how strongly they pull towards the target, and how little they vary on clean images.
    That departs from the paper, whose rule is "difference". Pruning stops as soon as the recovered trigger
    no longer works, or before clean accuracy (agreement with the delivered network, where there are no
    labels) has fallen by more than `drop`.

    Reference: Wang et al., Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
    Networks, IEEE S&P 2019.

    Args:
        layer: the layer whose units are pruned; empty for the penultimate features.
        rank: "pull", or "difference" for the plain difference of activations.
        success: the recovered trigger no longer works at this attack success, 0 to 1.
        drop: clean accuracy that may be lost, 0 to 1.

    """

    name = "prune"

    layer: str = ""
    rank: Literal["pull", "difference"] = "pull"
    success: float = 0.01
    drop: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.rank not in {"pull", "difference"}:
            raise OptionError(f"expected the rank pull or difference, got {self.rank!r}")
        if not (0 <= self.success <= 1 and 0 <= self.drop <= 1):
            raise OptionError(f"expected success and drop in [0, 1], got {self.success:g} and {self.drop:g}")

    def needs_triggers(self) -> bool:
        """Return that it does."""
        return True

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` with the trigger's neurons removed.

        Raises:
            OptionError: no finding carries a recovered trigger.
            ModelError: there is no such layer, or it has no weights of its own to prune.

        """
        known = with_triggers(findings, self.name)
        taught = lesson(model, data, [finding.label for finding in findings])
        copy = model.copy()
        pull = self.rank == "pull" and not self.layer
        order = _pull(copy, taught, known) if pull else _excitement(copy, taught, known, self.layer or None)
        measure = _penultimate_curve if not self.layer else _layer_curve
        pruned, accuracy, success = measure(copy, taught, known, order, self.layer)
        chosen = self._stop(accuracy, success)
        remove = _remove_features if not self.layer else remove_units
        remove(copy, self.layer, order[: pruned[chosen]])
        where = f"layer {self.layer}" if self.layer else "the penultimate features"
        step = RepairStep(
            method=self.name,
            summary=(
                f"pruned {pruned[chosen]} of {len(order)} units of {where}: the recovered trigger's "
                f"success went from {success[0]:.1%} to {success[chosen]:.1%}, "
                f"{'clean accuracy' if taught.labelled else 'agreement'} from {accuracy[0]:.1%} "
                f"to {accuracy[chosen]:.1%}"
            ),
            curves={
                "units pruned": [float(count) for count in pruned],
                "clean accuracy" if taught.labelled else "agreement": accuracy,
                "attack success": success,
            },
            details={
                "chosen": pruned[chosen],
                "units": order[: pruned[chosen]].tolist(),
                "layer": self.layer or copy.head,
                "labelled": taught.labelled,
            },
        )
        return Repaired(model=copy, steps=(step,))

    def _stop(self, accuracy: list[float], success: list[float]) -> int:
        """Return the point of the curve to stop at: where the trigger is dead, or the last allowed."""
        allowed = 0
        for point, (kept, works) in enumerate(zip(accuracy, success, strict=True)):
            if kept < accuracy[0] - self.drop:
                break
            allowed = point
            if works <= self.success:
                break
        return allowed


Curve = tuple[list[int], list[float], list[float]]


def _excitement(
    model: Classifier, taught: Lesson, known: Sequence[Backdoor], layer: str | None
) -> torch.Tensor:
    """Return the units, the one that the triggers excite most first."""

    def mean_output(images: torch.Tensor) -> torch.Tensor:
        return per_unit(model.activations(images, layer))

    clean = mean_output(taught.images)
    excess = [mean_output(lead.trigger.stamp(taught.images)) - clean for lead in known]
    return torch.stack(excess).amax(0).argsort(descending=True)


def _pull(model: Classifier, taught: Lesson, known: Sequence[Backdoor]) -> torch.Tensor:
    """Return the penultimate features, the one through which a trigger pulls hardest first."""
    weight, _ = model.head_weights()
    clean = model.activations(taught.images)
    spread = clean.std(0) + 0.1 * clean.std(0).mean()
    pulls = []
    for lead in known:
        excess = (model.activations(lead.trigger.stamp(taught.images)) - clean).mean(0).clamp(min=0)
        pulls += [
            excess * (weight[label] - weight.mean(0)) / spread
            for label in lead.aim.targets(model.num_classes)
        ]
    return torch.stack(pulls).amax(0).argsort(descending=True)


def _head(model: Classifier) -> nn.Linear:
    head = model.module(model.head)
    assert isinstance(head, nn.Linear)
    return head


def _penultimate_curve(
    model: Classifier, taught: Lesson, known: Sequence[Backdoor], order: torch.Tensor, _layer: str
) -> Curve:
    """Measure every point: without unit k the logits lose its column, so no network run is needed."""
    weight, bias = model.head_weights()

    def shares(images: torch.Tensor, wanted: torch.Tensor) -> list[float]:
        features = model.activations(images)
        logits = features @ weight.T + bias
        out = [float((logits.argmax(1) == wanted).float().mean())]
        for unit in order.tolist():
            logits.addr_(features[:, unit], weight[:, unit], alpha=-1)
            out.append(float((logits.argmax(1) == wanted).float().mean()))
        return out

    accuracy = shares(taught.images[taught.judged], taught.truth[taught.judged])
    each = [shares(*_stamped(lead, taught, model.num_classes)) for lead in known]
    success = [max(point) for point in zip(*each, strict=True)]
    return list(range(len(order) + 1)), accuracy, success


def _layer_curve(
    model: Classifier, taught: Lesson, known: Sequence[Backdoor], order: torch.Tensor, layer: str
) -> Curve:
    """Measure up to `POINTS` points from none to all units, running the network each time."""
    points = curve_points(len(order), POINTS)
    accuracy, success = [], []
    stamped = [_stamped(lead, taught, model.num_classes) for lead in known]
    trial = model.copy()
    done = 0
    for count in points:
        remove_units(trial, layer, order[done:count])
        done = count
        accuracy.append(taught.kept(trial))
        hits = [float((trial.answers(images) == goals).float().mean()) for images, goals in stamped]
        success.append(max(hits))
    return points, accuracy, success


def _stamped(lead: Backdoor, taught: Lesson, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images that a trigger is to move, stamped, and the labels that it moves them to."""
    places = lead.aim.moved(taught.truth)
    return lead.trigger.stamp(taught.images[places]), lead.aim.goals(taught.truth[places], classes)


def _remove_features(model: Classifier, _layer: str, units: torch.Tensor) -> None:
    """Make the last linear layer deaf to these features."""
    with torch.no_grad():
        _head(model).weight[:, units] = 0
