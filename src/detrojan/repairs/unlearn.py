"""Unlearning: show the trigger with the right labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import (
    Lesson,
    Repaired,
    Tuning,
    lesson,
    repeated,
    times,
    with_triggers,
    worst_success,
)
from detrojan.run import Run
from detrojan.store import tensor_digest
from detrojan.triggers.base import Trigger

Pairs = Sequence[tuple[int, Trigger]]


@dataclass(frozen=True, kw_only=True)
class Unlearn(Tuning):
    """Fine-tune with the recovered trigger stamped on a share of the images, labels kept right.

    The paper's single epoch is too little for a few hundred images, and with one and the same share
    stamped in all of them a network learns these images by heart: each image is stamped in one of
    1 / `stamped` passes. One round against one
    recovered trigger is quick, and enough where that trigger is close to the attacker's. Where it
    is not, the attacker's trigger survives; `adversarial` is for that. The paper compares with two
    other trainings: one that stamps the original trigger, and one on clean images only.

    Reference: Wang et al., Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
    Networks, IEEE S&P 2019.

    Args:
        epochs: passes over the data; 1 or more (the paper: 1).
        learning_rate: of Adam, falling to 0 along a cosine; above 0.
        batch_size: 2 or more.
        stamped: share of the images that carry the trigger, in (0, 1] (the paper: 0.2, of ten times as
            many images).
        images: "stamped", or "clean" to train on clean images only, for comparison.
        original: target labels and triggers that are known, instead of the recovered ones.

    """

    name = "unlearn"

    epochs: int = 15
    learning_rate: float = 1e-3
    batch_size: int = 64
    stamped: float = 1 / 3
    images: Literal["stamped", "clean"] = "stamped"
    original: tuple[tuple[int, Trigger], ...] = ()

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not 0 < self.stamped <= 1:
            raise OptionError(f"expected a stamped share in (0, 1], got {self.stamped:g}")
        if self.images not in {"stamped", "clean"}:
            raise OptionError(f"expected images stamped or clean, got {self.images!r}")

    def hyper_parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters as plain values; a trigger is recorded by its kind and digests."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        record["original"] = [
            {
                "target": label,
                "trigger": trigger.kind,
                **{name: tensor_digest(tensor) for name, tensor in trigger.state()[0].items()},
            }
            for label, trigger in self.original
        ]
        return record

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` that has unlearned the triggers.

        Raises:
            OptionError: no trigger is given, and no finding carries a recovered one; clean images
                only need none.

        """
        known: Pairs = self.original
        if not known:
            clean = self.images == "clean"
            known = _recovered(findings) if clean else with_triggers(findings, self.name)
        taught = lesson(
            model, data, sorted({*(one.label for one in findings), *(label for label, _ in known)})
        )
        copy = model.copy()
        before = self._success(copy, known, taught)
        copies = 1 if self.images == "clean" else min(self.epochs, max(1, round(1 / self.stamped)))
        several = repeated(taught, copies)
        images = taught.images if self.images == "clean" else self._stamped(several, copies, known, run)
        how = replace(self, epochs=max(1, round(self.epochs / copies)))
        history = how.tune(copy, images, several, run=run.within("unlearn"), title="unlearning")
        after = self._success(copy, known, taught)
        step = RepairStep(
            method=self.name,
            summary=self._summary(len(known), len(taught.images), before, after),
            **how.recorded(taught, history),
        )
        return Repaired(model=copy, steps=(step,))

    def _stamped(self, several: Lesson, copies: int, known: Pairs, run: Run) -> torch.Tensor:
        """Return the images of so many copies of the lesson, each copy with another share stamped."""
        images, count = several.images.clone(), len(several.images) // copies
        order = torch.randperm(count, generator=run.generator("unlearn", "stamped"))
        for number in range(copies):
            first = min(number * self.stamped, 1 - self.stamped)
            last = max(round(first * count) + 1, round((first + self.stamped) * count))
            chosen = order[round(first * count) : last] + number * count
            for (label, trigger), part in zip(known, chosen.tensor_split(len(known)), strict=True):
                # the trigger on an image of the target itself would teach what is to be forgotten
                others = part[several.truth[part] != label]
                images[others] = trigger.stamp(images[others])
        return images

    def _success(self, model: Classifier, known: Pairs, taught: Lesson) -> float | None:
        return worst_success(model, known, taught.images, taught.truth) if known else None

    def _summary(self, count: int, images: int, before: float | None, after: float | None) -> str:
        kind = f"{'original' if self.original else 'recovered'} trigger"
        did = (
            f"trained on {images} clean images for {times(self.epochs, 'epoch')}"
            if self.images == "clean"
            else f"unlearned {times(count, kind)} on {images} images"
        )
        if before is None or after is None:
            return did
        whose = "the trigger's" if self.images == "clean" else "their"
        return f"{did}: {whose} success went from {before:.1%} to {after:.1%}"


def _recovered(findings: Sequence[Finding]) -> list[tuple[int, Trigger]]:
    return [(finding.label, finding.trigger) for finding in findings if finding.trigger is not None]
