"""BaDExpert: of a backdoored network make one that knows only the backdoor, and one that has forgotten it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.guards.base import Calibrated
from detrojan.guards.cross_fitted import CrossFitted, folded, scored
from detrojan.guards.usual import odds
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: where the shadow agrees with less of the images that it learns than this share, its rate is halved
_BROKEN = 0.4
#: how often
_HALVINGS = 6


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedBadExpert(Calibrated):
    """BaDExpert bound to a model.

    Attributes:
        expert: the network that knows the backdoor.
        shadow: the one that knows the task.

    """

    statistic: ClassVar[str] = "margin"

    expert: Classifier = field(repr=False)
    shadow: Classifier = field(repr=False)

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return how much surer the expert is of the model's answer than the shadow, in log odds, (N,).

        Raises:
            DataError: images of another shape than the network's.

        """
        labels = self.model.answers(images)
        expert, shadow = (odds(one.all_logits(images), labels) for one in (self.expert, self.shadow))
        return expert - shadow

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the weights of both networks."""
        return {
            f"{name}.{key}": value.clone()
            for name, model in (("expert", self.expert), ("shadow", self.shadow))
            for key, value in model.network.state_dict().items()
        }, {}


@dataclass(frozen=True, kw_only=True)
class BadExpert(CrossFitted):
    """Make of the network an expert for its backdoor and a shadow without it, and compare their answers.

    The expert is fine-tuned on clean images with wrong labels, each the next class of the right one. It
    forgets the task soon, and the backdoor late. The shadow is fine-tuned on clean images at a high rate,
    and forgets the backdoor. An input is called backdoored if the expert is surer of the network's answer
    than the shadow. This catches triggers that cover the image or differ from image to image, if
    fine-tuning removes them.

    It needs the network's weights and gradients, and three forwards per input. Labels are used where
    there are some, otherwise the network's own answers. The expert always learns from the network's own
    answers. Both networks lie in the guard's folder, as safetensors.

    Departures from the paper: the score is the difference of the log odds, instead of a rule made of both
    probabilities that differs between architectures. The boundary is set on clean images that neither
    network has learned, instead of on those of the test set. Both learn from one half of the images. A
    second pair of networks learns from the other half, and scores the first one. The expert's training
    takes several passes where there are few images, and ends when it knows little of the task.

    Reference: Xie et al., BaDExpert: Extracting Backdoor Functionality for Accurate Backdoor Input
    Detection, ICLR 2024.

    Args:
        frr: false rejection rate that the boundary is set for, in (0, 0.5).
        expert_rate: learning rate of the expert, by Adam; above 0.
        expert_epochs: most passes over the clean images for the expert; 1 or more.
        forgotten: the expert is done when it agrees with the network on less than this share of the
            clean images, in (0, 1).
        shadow_rate: learning rate of the shadow, by SGD, falling to 0 along a cosine; above 0. It is halved
            where it breaks the network.
        shadow_epochs: passes over the clean images for the shadow; 1 or more.
        shift_pixels: random shifts of the shadow's images of up to so many pixels; 0 or more.
        batch_size: 2 or more.

    """

    name = "badexpert"
    lets_through: ClassVar[str] = "A trigger that fine-tuning on clean images does not remove gets past it."

    frr: float = 0.01
    expert_rate: float = 2e-4
    expert_epochs: int = 40
    forgotten: float = 0.2
    shadow_rate: float = 0.05
    shadow_epochs: int = 10
    shift_pixels: int = 3
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        self._expert_fitting()
        self._shadow_fitting(self.shadow_rate)
        if self.expert_epochs < 1 or self.shift_pixels < 0 or not 0 < self.forgotten < 1:
            raise OptionError(
                "expected expert_epochs of 1 or more, shift_pixels of 0 or more and forgotten in (0, 1), "
                f"got {self.expert_epochs}, {self.shift_pixels} and {self.forgotten:g}"
            )

    def _expert_fitting(self) -> Fitting:
        return Fitting(
            epochs=1,
            batch_size=self.batch_size,
            learning_rate=self.expert_rate,
            optimizer="adam",
            weight_decay=0.0,
            decay="none",
        )

    def _shadow_fitting(self, rate: float) -> Fitting:
        return Fitting(epochs=self.shadow_epochs, batch_size=self.batch_size, learning_rate=rate)

    def crossed(
        self, model: Classifier, clean: Dataset, *, run: Run
    ) -> tuple[CalibratedBadExpert, torch.Tensor]:
        """Return the pair that has learned from one half of the images, and the scores of all (N,).

        Scores of that half come from a second pair, which learns from the other half and is not kept. No
        two trainings end alike: its scores are brought to the mean and the deviation of the first pair's.

        Raises:
            DataError: scores that are no finite number.

        """
        first, second = folded(len(clean), 2, run)
        pair = self.learned(model, clean.select(first[1]), run=run)
        other = self.learned(model, clean.select(second[1]), run=run.within("second"))
        own, theirs = (
            scored(made, clean.images[left_out], run=run)
            for made, left_out in ((pair, first[0]), (other, second[0]))
        )
        unit = own.std() / theirs.std().clamp(min=1e-9)
        scores = torch.empty(len(clean), dtype=torch.float64)
        scores[first[0]], scores[second[0]] = own, own.mean() + unit * (theirs - theirs.mean())
        return pair, scores

    def learned(self, model: Classifier, known: Dataset, *, run: Run) -> CalibratedBadExpert:
        """Return the guard without a boundary."""
        own = model.answers(known.images)
        expert = self._expert(model, known, own, run.within("badexpert"))
        shadow = self._shadow(model, known, own, run.within("badexpert"))
        return CalibratedBadExpert(
            model=model,
            method=self,
            threshold=0,
            clean_scores=torch.zeros(0, dtype=torch.float64),
            expert=expert,
            shadow=shadow,
        )

    def _expert(self, model: Classifier, known: Dataset, own: torch.Tensor, run: Run) -> Classifier:
        """Return the expert: it unlearns the network's own answers (N,)."""
        copy, wrong = trainable(model), known.with_labels((own + 1) % model.num_classes)
        for epoch in range(self.expert_epochs):
            fit(
                copy,
                wrong,
                self._expert_fitting(),
                run=run.within("expert", epoch),
                title="BaDExpert: expert",
                identity=self.identity("expert", epoch=epoch),
            )
            if float((copy.answers(known.images) == own).double().mean()) < self.forgotten:
                break
        return settled(model, copy)

    def _shadow(self, model: Classifier, known: Dataset, own: torch.Tensor, run: Run) -> Classifier:
        """Return the shadow: at the highest of some rates that does not break it."""
        lesson = known if known.labels is not None else known.with_labels(own)
        rate = self.shadow_rate
        for _ in range(_HALVINGS):
            copy = trainable(model)
            fit(
                copy,
                lesson,
                self._shadow_fitting(rate),
                run=run.within("shadow"),
                title="BaDExpert: shadow",
                augment=shift(self.shift_pixels) if self.shift_pixels else None,
                identity=self.identity("shadow", rate=rate),
            )
            agreed = float((copy.answers(known.images) == own).double().mean())
            if math.isfinite(agreed) and agreed >= _BROKEN:
                break
            rate /= 2
        return settled(model, copy)

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedBadExpert:
        """Rebuild the guard from its files."""
        del values
        model: Classifier = common["model"]
        made = []
        for name in ("expert", "shadow"):
            made.append(model.copy())
            start = f"{name}."
            state = {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
            kept = made[-1].network.state_dict()
            wrong = [key for key in state.keys() & kept.keys() if state[key].dtype != kept[key].dtype]
            if state.keys() != kept.keys() or wrong:
                raise DataError(f"expected the weights of the {name}, as the network has them, got others")
            made[-1].network.load_state_dict(state)
        return CalibratedBadExpert(**common, expert=made[0], shadow=made[1])


def trainable(model: Classifier) -> Classifier:
    """Return a copy of which all weights may be trained."""
    copy = model.copy()
    for parameter in copy.network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return copy


def settled(model: Classifier, trained: Classifier) -> Classifier:
    """Return a copy of the model with the trained weights, laid out in memory as the model's are.

    So a guard that was saved and read again answers as this one, to the last bit.
    """
    made = model.copy()
    made.network.load_state_dict(trained.network.state_dict())
    return made
