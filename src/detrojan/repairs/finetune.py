"""Fine-tuning: train on a little clean data and hope that the backdoor is forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.fitting import Fitting, fit, shift
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repair, Repaired, lesson, soft_cross_entropy
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class FineTune(Repair):
    """Train on clean data alone, at a small learning rate.

    By itself it leaves many backdoors alive; after pruning it gives back the accuracy that pruning
    took (fine-pruning). Where labels are missing, the delivered network's own answers are taught.

    Reference: Liu et al., Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks, RAID 2018.

    Args:
        epochs: passes over the clean data; 1 or more.
        learning_rate: of Adam, falling to 0 along a cosine; above 0.
        batch_size: 2 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.

    """

    name = "finetune"

    epochs: int = 5
    learning_rate: float = 3e-4
    batch_size: int = 64
    shift_pixels: int = 1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        self.fitting()
        if self.shift_pixels < 0:
            raise OptionError(f"expected shift_pixels of 0 or more, got {self.shift_pixels}")

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
        """Return a copy of `model` trained on clean `data`; the findings only say what to leave out."""
        taught = lesson(model, data, [finding.label for finding in findings])
        copy = model.copy()
        with pruned_stay_pruned(copy):
            history = fit(
                copy,
                taught.dataset(),
                self.fitting(),
                run=run.within("finetune"),
                title="fine-tuning",
                augment=shift(self.shift_pixels) if self.shift_pixels else None,
                loss=soft_cross_entropy(taught.soft),
            )
        step = RepairStep(
            method=self.name,
            summary=(
                f"fine-tuned on {len(taught.images)} clean images for {self.epochs} "
                f"epoch{'s' if self.epochs > 1 else ''}"
            ),
            curves={
                "epoch": [float(epoch.number) for epoch in history],
                "training loss": [epoch.loss for epoch in history],
            },
            details={"labelled": taught.labelled, "fitting": asdict(self.fitting())},
        )
        return Repaired(model=copy, steps=(step,))


@contextmanager
def pruned_stay_pruned(model: Classifier) -> Iterator[None]:
    """While the body trains, keep every weight that is exactly 0: pruning made it so."""
    handles = []
    for parameter in model.network.parameters():
        alive = (parameter.detach() != 0).to(parameter.dtype)
        if parameter.requires_grad and not bool(alive.all()):
            hook = parameter.register_hook(lambda slope, alive=alive: slope * alive)  # type: ignore[no-untyped-call]
            handles.append(hook)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
