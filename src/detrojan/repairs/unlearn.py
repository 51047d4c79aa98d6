"""Unlearning: show the recovered trigger with the right labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.fitting import Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import (
    Repair,
    Repaired,
    lesson,
    soft_cross_entropy,
    with_triggers,
    worst_success,
)
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class Unlearn(Repair):
    """Fine-tune with the recovered trigger stamped on a share of the images, labels kept right.

    The paper's single epoch is too little for a few hundred images. One round against one
    recovered trigger is quick, and enough where that trigger is close to the attacker's. Where it
    is not, the attacker's trigger survives; `adversarial` is for that.

    Reference: Wang et al., Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
    Networks, IEEE S&P 2019.

    Args:
        epochs: passes over the data; 1 or more (the paper: 1).
        learning_rate: of Adam, falling to 0 along a cosine; above 0.
        batch_size: 2 or more.
        stamped: share of the images that carry the trigger, in (0, 1] (the paper: 0.2).

    """

    name = "unlearn"

    epochs: int = 15
    learning_rate: float = 1e-3
    batch_size: int = 64
    stamped: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        self.fitting()
        if not 0 < self.stamped <= 1:
            raise OptionError(f"expected a stamped share in (0, 1], got {self.stamped:g}")

    def fitting(self) -> Fitting:
        """Return how to train."""
        return Fitting(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            optimizer="adam",
            weight_decay=0.0,
            frozen_norm=True,
        )

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` that has unlearned the recovered triggers.

        Raises:
            OptionError: no finding carries a recovered trigger.

        """
        pairs = with_triggers(findings, self.name)
        taught = lesson(model, data, [label for label, _ in pairs])
        images, truth, soft = taught.images.clone(), taught.truth, taught.soft
        order = torch.randperm(len(images), generator=run.generator("unlearn", "stamped"))
        chosen = order[: max(1, round(self.stamped * len(images)))]
        for (label, trigger), part in zip(pairs, chosen.tensor_split(len(pairs)), strict=True):
            # the trigger on an image of the target itself would teach what is to be forgotten
            others = part[truth[part] != label]
            images[others] = trigger.stamp(images[others])
        copy = model.copy()
        before = worst_success(copy, pairs, taught.images, truth)
        history = fit(
            copy,
            Dataset(images, truth),
            self.fitting(),
            run=run.within("unlearn"),
            title="unlearning",
            loss=soft_cross_entropy(soft),
        )
        after = worst_success(copy, pairs, taught.images, truth)
        step = RepairStep(
            method=self.name,
            summary=(
                f"unlearned {len(pairs)} recovered trigger{'s' if len(pairs) > 1 else ''} on "
                f"{len(images)} images: their success went from {before:.1%} to {after:.1%}"
            ),
            curves={
                "epoch": [float(epoch.number) for epoch in history],
                "training loss": [epoch.loss for epoch in history],
            },
            details={"labelled": taught.labelled, "fitting": asdict(self.fitting())},
        )
        return Repaired(model=copy, steps=(step,))
