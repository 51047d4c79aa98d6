"""Fine-pruning: prune what clean images do not use, then train on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding
from detrojan.models.classifier import Classifier
from detrojan.repairs.activation_pruning import ActivationPruning
from detrojan.repairs.base import Repaired, Tuning, enough, lesson
from detrojan.repairs.finetune import FineTune
from detrojan.repairs.teaching import Teaching
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class FinePruning(Tuning):
    """Prune the channels dormant on clean images, then fine-tune what is left.

    Pruning takes a plain backdoor's channels away; fine-tuning then changes those channels that a
    pruning-aware attack has made share the backdoor with the clean task, and gives accuracy back.
    What was pruned stays pruned. It is taught what the delivered network answers to the very images, each
    time shifted and blended with another in a new way, so that a hundred images give back what pruning
    took; the paper teaches labels, and has many more images.

    The defaults cost a network little, and leave a backdoor that sits in no dormant channel. A network
    without batch norms bears more: with `drop=0.15`, `learning_rate=3e-3`, `updates=1800` and
    `shift_pixels=2`, some minutes instead of seconds, 1 to 49% was left of what the defaults left whole,
    and 81% and more of pruning-aware attacks, at 0.5 to 3 points of accuracy. A narrow residual network with
    batch norms loses 7 points at that rate.

    Reference: Liu et al., Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks, RAID 2018.

    Args:
        epochs: passes over the clean data; 1 or more.
        learning_rate: of Adam, falling to 0 along a cosine; above 0.
        batch_size: 2 or more.
        updates: updates of the network, at least: where the data are so few that `epochs` passes make
            fewer, there are more passes; 0 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        layer: the layer whose channels are pruned; empty for the last convolution.
        drop: clean accuracy that pruning may take, 0 to 1.
        points: most points of the pruning curve; 2 or more.

    """

    name = "fine_pruning"

    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 64
    updates: int = 200
    shift_pixels: int = 1
    layer: str = ""
    drop: float = 0.05
    points: int = 100

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.updates < 0:
            raise OptionError(f"expected updates of 0 or more, got {self.updates}")
        self.pruning()
        self.tuning(self.batch_size)

    def pruning(self) -> ActivationPruning:
        """Return the first half."""
        return ActivationPruning(layer=self.layer, drop=self.drop, points=self.points)

    def tuning(self, images: int) -> FineTune:
        """Return the second half, for so many clean images."""
        return FineTune(
            epochs=enough(self.epochs, self.updates, images, self.batch_size),
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            shift_pixels=self.shift_pixels,
        )

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model`, pruned and fine-tuned; no trigger is needed.

        Raises:
            ModelError: there is no such layer, none with weights, or no convolution.

        """
        pruned = self.pruning().repair(model, data, findings, run=run)
        # what the pruned network has got wrong is not to be taught: the delivered one is the teacher
        taught = lesson(model, data, [finding.label for finding in findings])
        teaching = Teaching(teacher=model, taught=taught, shift_pixels=self.shift_pixels)
        tuned = self.tuning(len(data)).tuned(pruned.model, taught, teaching=teaching, run=run)
        return Repaired(model=tuned.model, steps=(*pruned.steps, *tuned.steps))
