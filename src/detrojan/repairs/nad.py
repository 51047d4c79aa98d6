"""Neural attention distillation: a fine-tuned copy teaches the network where to look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.errors import ModelError, OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.learning.augmentation import Augment, blended, shift
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.units import caught_activity, convolutions
from detrojan.repairs.base import Repaired, times
from detrojan.repairs.lessons import Lesson, lesson
from detrojan.repairs.patient import PatientTuning, bears_a_high_rate
from detrojan.repairs.tuning import bearable
from detrojan.run import Run

#: attention is compared at so many layers, the last ones
LAYERS = 3


@dataclass(frozen=True, kw_only=True)
class NAD(PatientTuning):
    """Fine-tune a teacher, then bring the network's attention maps close to the teacher's.

    A layer's attention map is the sum over its channels of the activations to a power, scaled to
    length 1. A trigger draws the attention to itself. The teacher, tuned on clean images, has lost part of
    that. The student, pulled towards it at several layers, loses more. The maps are compared where the
    resolution changes, found by running the network (the last three places). Both are taught what the
    delivered network answers to the same images, each time shifted and blended with another in a new way.
    The paper teaches labels, and has many more images.

    This repair is for networks with batch norms. Others bear no high rate: 5e-3 cost clean DeepIDs 14 to 24
    points of 78. The default costs them little, and leaves a backdoor as it is. A network whose last layer
    gets long features (a mean squared length above 400) is tuned as if it had no batch norms.

    Reference: Li et al., Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural
    Networks, ICLR 2021.

    Args:
        epochs: passes over the clean data, for the teacher and again for the student; 1 or more.
        learning_rate: of Adam, falling to 0 along a cosine; above 0. Halved where it breaks the network.
        batch_size: 2 or more.
        norm_rate: of SGD, used instead of Adam for a network with batch norms; above 0. Halved as well.
        updates: updates of the teacher and of the student, at least: where the data are so few that
            `epochs` passes make fewer, there are more passes; 0 or more.
        norm_updates: the same for a network with batch norms; 0 or more.
        shift_pixels: random shifts of the images of up to so many pixels; 0 or more.
        norm_shift_pixels: the same for a network with batch norms; 0 or more.
        beta: weight of the attention maps' mean squared distance; 0 or more.
        power: of the activations in an attention map; above 0.

    """

    name = "nad"

    epochs: int = 10
    learning_rate: float = 5e-4
    batch_size: int = 64
    norm_rate: float = 0.2
    updates: int = 200
    norm_updates: int = 400
    shift_pixels: int = 2
    norm_shift_pixels: int = 4
    beta: float = 100.0
    power: float = 2.0

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not self.beta >= 0 or not self.power > 0:
            raise OptionError(
                f"expected beta of 0 or more and power above 0, got {self.beta:g} and {self.power:g}"
            )

    def changes(self, model: Classifier, images: torch.Tensor) -> Augment:
        """Return how `images` are changed on which a network like `model` is taught."""
        bold = bears_a_high_rate(model, images)
        return blended(shift(self.norm_shift_pixels if bold else self.shift_pixels))

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` distilled from a fine-tuned teacher; no trigger is needed.

        Raises:
            ModelError: no convolution whose maps have more than one place.

        """
        taught = lesson(model, data, [finding.label for finding in findings])
        before = taught.kept(model)
        return bearable(self, taught, before, lambda how: how.attempt(model, taught, run=run))

    def attempt(self, model: Classifier, taught: Lesson, *, run: Run) -> Repaired:
        """Return a copy, repaired at the learning rate as it stands."""
        layers = attention_layers(model)
        teacher, student = model.copy().to(run.device), model.copy().to(run.device)
        here = run.within("nad")
        self.teach(teacher, model, taught, run=here.within("teacher"), title="NAD: teacher")
        before = self._distance(student, teacher, taught.images, layers)
        with self._distilling(student, teacher, layers) as apart:
            history = self.teach(
                student,
                model,
                taught,
                run=here.within("student"),
                title="NAD: student",
                beside=apart,
                depends={"teacher": teacher},
            )
        after = self._distance(student, teacher, taught.images, layers)
        how = self.fitting_for(model, taught.images)
        record = self.recorded(taught, history, how)
        record["details"] |= {"layers": layers, "distance before": before, "distance after": after}
        step = RepairStep(
            method=self.name,
            summary=(
                f"distilled from a fine-tuned teacher on {len(taught.images)} clean images for "
                f"{times(how.epochs, 'epoch')}; attention maps of {', '.join(layers)}"
            ),
            **record,
        )
        return Repaired(model=student, steps=(step,))

    @contextmanager
    def _distilling(
        self, student: Classifier, teacher: Classifier, layers: list[str]
    ) -> Iterator[Callable[[], torch.Tensor]]:
        """Give how far the student's attention to its last images is from the teacher's, weighted."""
        seen: list[torch.Tensor] = []
        handle = student.network.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
        with (
            caught_activity(student, layers) as own,
            caught_activity(teacher, layers) as wanted,
            teacher.judging(),
        ):

            def apart() -> torch.Tensor:
                with torch.no_grad():
                    teacher.network(seen[-1])
                seen.clear()
                distances = [
                    (attention(own[name], self.power) - attention(wanted[name], self.power)).square().mean()
                    for name in layers
                ]
                return self.beta * torch.stack(distances).sum()

            try:
                yield apart
            finally:
                handle.remove()

    def _distance(self, one: Classifier, other: Classifier, images: torch.Tensor, layers: list[str]) -> float:
        """Return the mean squared distance of the two networks' attention to a few images."""
        some, maps = images[:256], []
        for model in (one, other):
            with caught_activity(model, layers) as caught:
                model.answers(some)
                maps.append([attention(caught[name], self.power) for name in layers])
        pairs = zip(*maps, strict=True)
        return float(torch.stack([(a - b).square().mean() for a, b in pairs]).mean())


def attention(active: torch.Tensor, power: float) -> torch.Tensor:
    """Return the attention maps (N, places) of activations (N, C, ...), each of length 1."""
    return functional.normalize(active.abs().pow(power).sum(1).flatten(1), dim=1)


def attention_layers(model: Classifier, most: int = LAYERS) -> list[str]:
    """Return the last convolution at each resolution, in their order, at most the `most` last ones.

    Raises:
        ModelError: no convolution has a map of more than one place.

    """
    found: dict[tuple[int, ...], str] = {}
    for layer in convolutions(model):
        places = layer.shape[1:]
        if torch.Size(places).numel() > 1:
            found.pop(places, None)
            found[places] = layer.name
    if not found:
        raise ModelError("expected a network with convolutions, whose attention can be taught; it has none")
    return list(found.values())[-most:]
