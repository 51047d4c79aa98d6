"""Dynamic: the trigger is drawn for each image, by a network that is trained with the victim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from detrojan.attacks.base import Planted, check_share
from detrojan.attacks.drawing import MaskTeacher, PatternTeacher, spread_ratio
from detrojan.attacks.shifting import Shifting
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.learning.fitting import Fitting, Loss, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.input_aware import InputAwareTrigger

#: the paper's rate for both generators, which suits them whatever the classifier needs
DRAWING_RATE = 0.01
#: rate at which the patterns and their reader learn before there is a classifier
WARMING_RATE = 0.004
#: rate at which patterns go on learning with the classifier when they learnt before: it has to keep up
REFINING_RATE = 0.001


@dataclass(frozen=True, kw_only=True)
class Dynamic(Shifting):
    """Train the network together with a generator that draws another trigger for each image.

    First a network learns where a trigger goes (a sparse mask, different for each image). Then the
    classifier and the generator of patterns learn together. In each batch a share of the images carries its
    own trigger and is taught the target. Another share carries the triggers of other images and is taught
    its true label. The generator has an optimiser of its own, as in the paper: Adam, whatever the
    classifier is trained with.

    A short training is not enough for the two to meet. `pattern_epochs` lets the generator learn first,
    beside a small network of the attacker's that tells an image's own trigger from another one's.

    Reference: Nguyen and Tran, Input-Aware Dynamic Backdoor Attack, NeurIPS 2020.

    Args:
        poison_rate: share of each batch that carries its own trigger; in (0, 0.5).
        cross_rate: share of each batch that carries the trigger of another image; in [0, 0.5).
        target: the label asked for, 0-based, or -1 to make it untargeted (label y becomes
            (y + 1) mod K); -1 or more.
        density: opacity of a pixel of the mask that is not penalised, in (0, 1).
        norm_weight: weight of that penalty, 0 or more; the less, the more pixels a trigger has.
        diversity_weight: weight of the demand that different images get different triggers, 0 or more.
        mask_epochs: passes over the data that train the mask; 1 or more.
        pattern_epochs: passes over the data that train the patterns before the classifier is there; 0
            or more, 0 as in the paper.
        width: channels of the generators' first layer, a multiple of 4, 4 to 256.

    """

    name = "dynamic"

    poison_rate: float = 0.1
    cross_rate: float = 0.1
    target: int = 0
    density: float = 0.032
    norm_weight: float = 100.0
    diversity_weight: float = 1.0
    mask_epochs: int = 25
    pattern_epochs: int = 0
    width: int = 16

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not (0 < self.poison_rate < 0.5 and 0 <= self.cross_rate < 0.5):
            raise OptionError(
                "expected poison_rate in (0, 0.5) and cross_rate in [0, 0.5), "
                f"got {self.poison_rate:g} and {self.cross_rate:g}"
            )
        check_share("density", self.density)
        if self.target < -1:
            raise OptionError(f"expected a target of -1 or more, got {self.target}")
        if not (self.norm_weight >= 0 and self.diversity_weight >= 0 and self.mask_epochs >= 1):
            raise OptionError(
                "expected norm_weight and diversity_weight of 0 or more and mask_epochs of 1 or more, "
                f"got {self.norm_weight:g}, {self.diversity_weight:g} and {self.mask_epochs}"
            )
        if self.pattern_epochs < 0:
            raise OptionError(f"expected pattern_epochs of 0 or more, got {self.pattern_epochs}")
        if not 4 <= self.width <= 256 or self.width % 4:
            raise OptionError(f"expected a width of 4 to 256 in steps of 4, got {self.width}")

    def train(self, model: Classifier, data: Dataset, *, run: Run, how: Fitting | None = None) -> Planted:
        """Return a trained copy of `model` and the trigger that was trained with it.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.
            OptionError: a target beyond the model's classes.

        """
        if self.target >= model.num_classes:
            raise OptionError(f"expected a target of 0 to {model.num_classes - 1}, got {self.target}")
        how = how or Fitting(learning_rate=0.03)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.derived_seed(self.name, "start"))
            trigger = InputAwareTrigger(data.shape, self.width)
        victim = model.copy().to(run.device)
        self._train_masks(trigger, data, victim.num_classes, how, run)
        if self.pattern_epochs:
            self._train_patterns(trigger, data, how, run)
        target = None if self.target < 0 else self.target
        backdoor = Backdoor(trigger=trigger, target=target)
        self._train_together(victim, backdoor, data, how, run)
        return Planted(model=victim, backdoors=(backdoor,))

    def _train_masks(
        self, trigger: InputAwareTrigger, data: Dataset, classes: int, how: Fitting, run: Run
    ) -> None:
        teacher = MaskTeacher(trigger, self.density, self.norm_weight, self.diversity_weight, classes)
        masks = replace(
            how, epochs=self.mask_epochs, optimizer="adam", learning_rate=DRAWING_RATE, weight_decay=0.0
        )
        fit(
            Classifier(teacher, data.shape),
            data,
            masks,
            run=replace(run.within(self.name, "masks"), mixed_precision=False),
            title="training the masks",
            loss=lambda _logits, _labels, _index: teacher.loss,
            identity=self.identity("masks"),
        )
        trigger.mask_drawer.requires_grad_(requires_grad=False)

    def _train_patterns(self, trigger: InputAwareTrigger, data: Dataset, how: Fitting, run: Run) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.derived_seed(self.name, "reader"))
            teacher = PatternTeacher(trigger, self.diversity_weight)
        patterns = replace(
            how, epochs=self.pattern_epochs, optimizer="adam", learning_rate=WARMING_RATE, weight_decay=0.0
        )
        fit(
            Classifier(teacher, data.shape),
            data.with_labels(torch.zeros(len(data), dtype=torch.int64)),
            patterns,
            run=replace(run.within(self.name, "patterns"), mixed_precision=False),
            title="training the patterns",
            augment=self.shifted(),
            loss=lambda _logits, _labels, _index: teacher.loss,
            identity=self.identity("patterns", trigger=trigger),
        )

    def _train_together(
        self, victim: Classifier, backdoor: Backdoor, data: Dataset, how: Fitting, run: Run
    ) -> None:
        both = _Together(victim, backdoor, self.poison_rate, self.cross_rate, self.diversity_weight)
        both.drawing_rate = REFINING_RATE if self.pattern_epochs else DRAWING_RATE
        fit(
            Classifier(both, data.shape),
            data,
            _Apart(**vars(how)),
            run=run.within(self.name, "together"),
            title="training network and trigger",
            augment=self.shifted(),
            loss=both.loss(how.label_smoothing),
            identity=self.identity("together", trigger=backdoor.trigger),
        )


class _Together(nn.Module):
    """The victim and the generator as one network: in training it poisons the batch it is given."""

    def __init__(
        self, victim: Classifier, backdoor: Backdoor, poisoned: float, crossed: float, diversity: float
    ) -> None:
        super().__init__()
        trigger = backdoor.trigger
        assert isinstance(trigger, InputAwareTrigger)
        self.network, self.drawer, self.masker = victim.network, trigger.pattern_drawer, trigger.mask_drawer
        self.victim, self.backdoor, self.trigger = victim, backdoor, trigger
        self.poisoned, self.crossed, self.diversity = poisoned, crossed, diversity
        self.drawing_rate = DRAWING_RATE
        self.spread = torch.zeros(())

    def counts(self, batch: int) -> tuple[int, int]:
        """Return how many samples at a batch's start are poisoned, and how many after them crossed."""
        return max(1, round(self.poisoned * batch)), round(self.crossed * batch)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.victim.logits(images)
        own, crossed = self.counts(len(images))
        # a crossed sample gets the trigger of the one that follows it
        givers = torch.cat([images[:own], images.roll(-1, 0)[own : own + crossed]])
        with torch.autocast(images.device.type, enabled=False):  # what is drawn counts to the last digit
            patterns, masks = self.trigger.patterns(givers), self.trigger.masks(givers)
        stamped = torch.lerp(images[: own + crossed], patterns, masks.expand_as(patterns))
        self.spread = spread_ratio(givers, patterns)
        return self.victim.logits(torch.cat([stamped, images[own + crossed :]]))

    def loss(self, smoothing: float) -> Loss:
        """Return the loss of such a batch: the poisoned samples are taught the backdoor's labels."""

        def teach(logits: torch.Tensor, labels: torch.Tensor, _index: torch.Tensor) -> torch.Tensor:
            own, _ = self.counts(len(labels))
            taught = labels.clone()
            taught[:own] = self.backdoor.aim.taught(labels[:own], logits.shape[1])
            wrong = functional.cross_entropy(logits, taught, label_smoothing=smoothing)
            return wrong + self.diversity * self.spread

        return teach


@dataclass(frozen=True, kw_only=True)
class _Apart(Fitting):
    """Trains the victim as asked, and the generator beside it by Adam."""

    def optimizer_for(self, network: nn.Module) -> torch.optim.Optimizer:
        assert isinstance(network, _Together)
        first = super().optimizer_for(network.network)
        return _Two(first, network.drawer, self.learning_rate, network.drawing_rate)


class _Two(torch.optim.Optimizer):
    """Two optimisers in step: the second one's rate falls as the first one's does."""

    def __init__(
        self, first: torch.optim.Optimizer, drawer: nn.Module, start: float, drawing_rate: float
    ) -> None:
        drawn = list(drawer.parameters())
        known = [parameter for group in first.param_groups for parameter in group["params"]]
        super().__init__([{"params": known}, {"params": drawn}], {"lr": start})
        self.first, self.start, self.drawing_rate = first, start, drawing_rate
        self.second = torch.optim.Adam(drawn, drawing_rate, betas=(0.5, 0.9))
        self._share_state()

    def _share_state(self) -> None:
        """Keep the state of both in one place, from which the training saves it."""
        self.first.state = self.second.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share_state()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        rate = self.param_groups[0]["lr"]
        for optimiser, own in ((self.first, rate), (self.second, self.drawing_rate * rate / self.start)):
            for group in optimiser.param_groups:
                group["lr"] = own
            optimiser.step(closure)
