"""Fine-tuning: train on a little clean data and hope that the backdoor is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repaired, times
from detrojan.repairs.lessons import lesson
from detrojan.repairs.tuning import Tuning
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class FineTune(Tuning):
    """Train on clean data alone, at a small learning rate.

    By itself it leaves many backdoors alive. After pruning it gives back the accuracy that pruning took
    (fine-pruning). It teaches the delivered network's own answers. An answer that a label contradicts is
    mixed with the label. The labels of a few images alone would be learned by heart, at the expense of all
    others. The paper teaches labels alone, and has many more images.

    Reference: Liu et al., Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks, RAID 2018.

    Args:
        epochs: passes over the clean data; 1 or more.
        learning_rate: of Adam, falling to 0 along a cosine; above 0.
        batch_size: 2 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        correction: weight of a label that contradicts the network's answer, beside that answer; 0 to 1.
            One that contradicts a suspected target is taught as it is.

    """

    name = "finetune"

    epochs: int = 5
    learning_rate: float = 1e-4
    batch_size: int = 64
    shift_pixels: int = 1
    correction: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.shift_pixels < 0:
            raise OptionError(f"expected shift_pixels of 0 or more, got {self.shift_pixels}")
        if not 0 <= self.correction <= 1:
            raise OptionError(f"expected a correction in [0, 1], got {self.correction:g}")

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` trained on clean `data`; the findings only say what to leave out."""
        targets = [finding.label for finding in findings]
        taught = lesson(model, data, targets, correction=self.correction)
        copy = model.copy()
        history = self.tune(
            copy,
            taught.images,
            taught,
            run=run.within("finetune"),
            title="fine-tuning",
            shift_pixels=self.shift_pixels,
        )
        step = RepairStep(
            method=self.name,
            summary=f"fine-tuned on {len(taught.images)} clean images for {times(self.epochs, 'epoch')}",
            **self.recorded(taught, history),
        )
        return Repaired(model=copy, steps=(step,))
