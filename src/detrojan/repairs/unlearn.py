"""Unlearning: show the trigger with the right labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.learning.augmentation import blended, shift
from detrojan.metrics.leads import leads
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repaired, times, with_triggers, worst_success
from detrojan.repairs.lessons import Lesson, lesson
from detrojan.repairs.teaching import Teaching
from detrojan.repairs.tuning import Tuning, enough
from detrojan.run import Run
from detrojan.store import tensor_digest
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger

Pairs = Sequence[tuple[int, Trigger]]


@dataclass(frozen=True, kw_only=True)
class Unlearn(Tuning):
    """Fine-tune with the recovered trigger stamped on a share of the images, answers kept right.

    The student sees the trigger on images that are shifted and blended with another in a new way each time.
    The delivered network, which does not see the trigger, says what they mean; its share for the target is
    taken out. So a few hundred images do what the paper's single epoch does with thousands. Labels that the
    delivered network gets wrong are not learned by heart. One round against one recovered trigger is quick,
    and enough where that trigger is close to the attacker's. Otherwise the attacker's trigger survives, and
    `adversarial` is the better choice. The paper compares with two other trainings: one that stamps the
    original trigger, and one on clean images only.

    Reference: Wang et al., Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
    Networks, IEEE S&P 2019.

    Args:
        epochs: passes over the data; 1 or more (the paper: 1).
        learning_rate: of Adam, falling to 0 along a cosine; above 0.
        batch_size: 2 or more.
        updates: updates of the network, at least: where the data are so few that `epochs` passes make
            fewer, there are more passes; 0 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        stamped: share of the images that carry the trigger, in (0, 1] (the paper: 0.2, of ten times as
            many images).
        images: "stamped", or "clean" to train on clean images only, for comparison.
        original: target labels and triggers that are known, instead of the recovered ones.

    """

    name = "unlearn"

    epochs: int = 5
    learning_rate: float = 1e-3
    batch_size: int = 64
    updates: int = 300
    shift_pixels: int = 2
    stamped: float = 0.5
    images: Literal["stamped", "clean"] = "stamped"
    original: tuple[tuple[int, Trigger], ...] = ()

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if min(self.updates, self.shift_pixels) < 0:
            raise OptionError(
                f"expected updates and shift_pixels of 0 or more, got {self.updates} and {self.shift_pixels}"
            )
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

    def needs_triggers(self) -> bool:
        """Return whether what is unlearned is a trigger."""
        return self.images != "clean" and not self.original

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` that has unlearned the triggers.

        Raises:
            OptionError: no trigger is given, and no finding carries a recovered one; clean images
                only need none.

        """
        known = [Backdoor(trigger=trigger, target=label) for label, trigger in self.original]
        if not known:
            known = leads(findings) if self.images == "clean" else with_triggers(findings, self.name)
        pairs = [(label, lead.trigger) for lead in known for label in lead.aim.targets(model.num_classes)]
        taught = lesson(
            model, data, sorted({*(one.label for one in findings), *(label for label, _ in pairs)})
        )
        copy = model.copy()
        before = self._success(copy, known, taught)
        stamps = () if self.images == "clean" else pairs
        here = run.within("unlearn", *_digests(stamps))
        teaching = Teaching(
            teacher=model,
            taught=taught,
            vary=blended(shift(self.shift_pixels)),
            stamps=stamps,
            stamped=self.stamped,
        )
        how = replace(self, epochs=enough(self.epochs, self.updates, len(taught.images), self.batch_size))
        history = how.tune(copy, taught.images, taught, run=here, title="unlearning", teaching=teaching)
        after = self._success(copy, known, taught)
        step = RepairStep(
            method=self.name,
            summary=self._summary(len(known), taught, how.epochs, before, after),
            **how.recorded(taught, history),
        )
        return Repaired(model=copy, steps=(step,))

    def _success(self, model: Classifier, known: Sequence[Backdoor], taught: Lesson) -> float | None:
        return worst_success(model, known, taught) if known else None

    def _summary(
        self, count: int, taught: Lesson, epochs: int, before: float | None, after: float | None
    ) -> str:
        kind = f"{'original' if self.original else 'recovered'} trigger"
        images = len(taught.images)
        did = (
            f"trained on {images} clean images for {times(epochs, 'epoch')}"
            if self.images == "clean"
            else f"unlearned {times(count, kind)} on {images} images"
        )
        if before is None or after is None:
            return did
        whose = "the trigger's" if self.images == "clean" else "their"
        return f"{did}: {whose} success went from {before:.1%} to {after:.1%}"


def _digests(pairs: Pairs) -> list[str | int]:
    """Return what tells these triggers apart from others: trainings with them are not the same."""
    parts: list[str | int] = []
    for label, trigger in pairs:
        tensors, values = trigger.state()
        parts += [label, *map(tensor_digest, tensors.values()), json.dumps(values)]
    return parts
