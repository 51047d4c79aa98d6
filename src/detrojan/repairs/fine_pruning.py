"""Fine-pruning: prune what clean images do not use, then train on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.models.classifier import Classifier
from detrojan.repairs.activation_pruning import ActivationPruning
from detrojan.repairs.base import Repaired, times
from detrojan.repairs.direction_pruning import DirectionPruning
from detrojan.repairs.finetune import FineTune
from detrojan.repairs.lessons import Lesson, lesson
from detrojan.repairs.patient import PatientTuning, bears_a_high_rate
from detrojan.repairs.tuning import bearable
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class FinePruning(PatientTuning):
    """Prune the channels dormant on clean images, then fine-tune what is left.

    Pruning takes a plain backdoor's channels away. Fine-tuning gives accuracy back. It also changes the
    channels in which a pruning-aware attack has mixed the backdoor with the clean task. What was pruned
    stays pruned. The network is taught what the delivered network answers to the same images, each time
    changed and mixed with others in a new way. So a hundred images give back what pruning took. The paper
    teaches labels, and has many more images.

    A network with batch norms is tuned by SGD at a high rate, and its statistics are trained along. Its
    images are also turned, resized, mirrored, recoloured and pasted into each other. On WRN-16-1s that left
    2 to 35% of BadNets, Trojan, feature collision and a sample-specific trigger, and 60% or more of six
    other backdoors. A higher `norm_rate` leaves less, and costs more.

    Another network, or one whose last layer gets long features (a mean squared length above 400), is tuned
    by Adam. The defaults cost it little, and leave a backdoor that sits in no dormant channel. With
    `unit="directions"` it is pruned as in `direction_pruning`. With `learning_rate=1e-3`, `updates=600` and
    `shift_pixels=2` that left 1 to 29% of such a backdoor, for 0.7 to 3.6 points of accuracy. It left 85%
    or more of a pruning-aware backdoor in face networks.

    With `patient=False` the second half is `finetune`, nearer to the paper. For `epochs` passes it teaches
    the delivered network's answers to unchanged images, corrected by the labels. With hundreds of labelled
    images (nine a person, say) and a high `learning_rate` (2e-3 or 3e-3, 60 passes) it leaves less of a
    backdoor. It may cost a clean network some points.

    Reference: Liu et al., Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks, RAID 2018.

    Args:
        epochs: passes over the clean data; 1 or more.
        learning_rate: of Adam, falling to 0 along a cosine; above 0.
        batch_size: 2 or more.
        norm_rate: of SGD, used instead of Adam for a network with batch norms; above 0. Halved where it
            breaks the network.
        updates: updates of the network, at least: where the data are so few that `epochs` passes make
            fewer, there are more passes; 0 or more.
        norm_updates: the same for a network with batch norms; 0 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        norm_shift_pixels: the same for a network with batch norms; 0 or more.
        unit: what is pruned: "channels", as in the paper, or "directions" of the last layers' inputs,
            which knows neither layer nor points.
        layer: the layer whose channels are pruned; empty for the last convolution.
        drop: clean accuracy that pruning may take, 0 to 1.
        points: most points of the curve along which channels are pruned; 2 or more.
        patient: whether images are changed and mixed in a new way in each pass, and the delivered network
            is asked about these. False for the tuning of `finetune`, which has no `updates` and treats
            batch norms like other layers.

    """

    name = "fine_pruning"

    epochs: int = 10
    learning_rate: float = 5e-4
    batch_size: int = 64
    norm_rate: float = 0.2
    updates: int = 400
    norm_updates: int = 1600
    shift_pixels: int = 1
    norm_shift_pixels: int = 4
    unit: Literal["channels", "directions"] = "channels"
    layer: str = ""
    drop: float = 0.05
    points: int = 100
    patient: bool = True

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.unit not in {"channels", "directions"}:
            raise OptionError(f"expected channels or directions as the unit, got {self.unit!r}")
        if self.unit == "directions" and (self.layer or self.points != type(self).points):
            raise OptionError("expected layer and points with channels, got them with directions")
        self.pruning()

    def pruning(self) -> ActivationPruning | DirectionPruning:
        """Return the first half."""
        if self.unit == "directions":
            return DirectionPruning(drop=self.drop, shift_pixels=self.shift_pixels)
        return ActivationPruning(layer=self.layer, drop=self.drop, points=self.points)

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model`, pruned and fine-tuned; no trigger is needed.

        Raises:
            DataError: images of another shape, or too few of them to prune directions.
            ModelError: there is no such layer, none with weights, or no convolution.

        """
        pruned = self.pruning().repair(model, data, findings, run=run)
        targets = [finding.label for finding in findings]
        # what the pruned network has got wrong is not to be taught: the delivered one is the teacher
        taught = lesson(model, data, targets, correction=0.0 if self.patient else 1.0)
        # only a high rate breaks a network
        if self.patient and bears_a_high_rate(model, taught.images):
            kept = taught.kept(model)
            tuned = bearable(self, taught, kept, lambda how: how.tuned(pruned.model, model, taught, run=run))
        else:
            tuned = self.tuned(pruned.model, model, taught, run=run)
        return Repaired(model=tuned.model, steps=(*pruned.steps, *tuned.steps))

    def tuned(self, pruned: Classifier, model: Classifier, taught: Lesson, *, run: Run) -> Repaired:
        """Return a copy of `pruned` tuned to answer as `model` does, at the rates as they stand."""
        copy, part, title = pruned.copy(), run.within("finetune"), "fine-tuning"
        if self.patient:
            how = self.fitting_for(model, taught.images)
            history = self.teach(copy, model, taught, run=part, title=title)
        else:
            how, shift_pixels = self.fitting(), self.shift_pixels
            history = self.tune(copy, taught.images, taught, run=part, title=title, shift_pixels=shift_pixels)
        step = RepairStep(
            method=FineTune.name,
            summary=f"fine-tuned on {len(taught.images)} clean images for {times(how.epochs, 'epoch')}",
            **self.recorded(taught, history, how),
        )
        return Repaired(model=copy, steps=(step,))
