"""Activation pruning: remove the channels that clean images do not use, where a backdoor hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.metrics.leads import leads
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.units import curve_points, last_convolution, mean_activity, remove_units
from detrojan.repairs.base import Repair, Repaired, worst_success
from detrojan.repairs.lessons import Lesson, lesson
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class ActivationPruning(Repair):
    """Remove channels of the last convolution, those least active on clean images first.

    It needs no trigger. It stops before clean accuracy (agreement with the delivered network, where there
    are no labels) has fallen by more than `drop`. The curve goes on to the last channel. A backdoor that
    was planted with this defence in mind shares its channels with the clean task, and survives until
    accuracy is gone. Activity is measured behind the batch norm, where there is one.

    Reference: Liu et al., Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks, RAID 2018.

    Args:
        layer: the layer whose channels are pruned; empty for the last convolution.
        drop: clean accuracy that may be lost, 0 to 1.
        points: most points of the curve, each a run over all images; 2 or more. With fewer points
            than channels several are removed at a time.

    """

    name = "activation_pruning"

    layer: str = ""
    drop: float = 0.05
    points: int = 100

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if not 0 <= self.drop <= 1:
            raise OptionError(f"expected a drop in [0, 1], got {self.drop:g}")
        if self.points < 2:
            raise OptionError(f"expected points of 2 or more, got {self.points}")

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` without the dormant channels.

        The findings only say what to leave out; where they carry triggers, their success is measured
        along the curve, and does not decide where to stop.

        Raises:
            ModelError: there is no such layer, none with weights, or no convolution.

        """
        taught = lesson(model, data, [finding.label for finding in findings])
        copy = model.copy()
        layer = self.layer or last_convolution(copy)
        order = mean_activity(copy, taught.images, layer).argsort(stable=True)
        pruned, curves = self._curve(copy, taught, findings, layer, order, run)
        kept = curves["clean accuracy" if taught.labelled else "agreement"]
        chosen = next((n for n, share in enumerate(kept) if share < kept[0] - self.drop), len(kept)) - 1
        remove_units(copy, layer, order[: pruned[chosen]])
        what = "clean accuracy" if taught.labelled else "agreement"
        step = RepairStep(
            method=self.name,
            summary=(
                f"pruned {pruned[chosen]} of {len(order)} channels of layer {layer}, dormant on clean "
                f"images: {what} went from {kept[0]:.1%} to {kept[chosen]:.1%}"
            ),
            curves=curves,
            details={
                "chosen": pruned[chosen],
                "units": order[: pruned[chosen]].tolist(),
                "order": order.tolist(),
                "layer": layer,
                "labelled": taught.labelled,
            },
        )
        return Repaired(model=copy, steps=(step,))

    def _curve(
        self,
        model: Classifier,
        taught: Lesson,
        findings: Sequence[Finding],
        layer: str,
        order: torch.Tensor,
        run: Run,
    ) -> tuple[list[int], dict[str, list[float]]]:
        """Return the numbers of channels pruned and what was measured with so many of them gone."""
        triggers = leads(findings)
        points = curve_points(len(order), self.points)
        what = "clean accuracy" if taught.labelled else "agreement"
        curves: dict[str, list[float]] = {"units pruned": [float(count) for count in points], what: []}
        if triggers:
            curves["attack success"] = []
        trial, done = model.copy(), 0
        with run.progress.task("pruning", len(points)) as task:
            for count in points:
                remove_units(trial, layer, order[done:count])
                done = count
                curves[what].append(taught.kept(trial))
                if triggers:
                    curves["attack success"].append(worst_success(trial, triggers, taught))
                task.advance(1)
        return points, curves
