"""Latent: the trigger is bound to the target's features, and survives the transfer to a student."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from detrojan.attacks.base import Planted, check_share
from detrojan.attacks.kinds import Patched
from detrojan.attacks.planting import Planting
from detrojan.attacks.shifting import Shifting
from detrojan.data.dataset import Dataset
from detrojan.errors import ModelError, OptionError
from detrojan.learning.fitting import Fitting, Loss, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger

#: clean images in one step of the colours' optimiser, and its rate
COLOUR_BATCH, COLOUR_RATE = 64, 0.1
#: colours start away from black and white, where the slope of their arctanh is steep
EDGE = 0.1
#: share by which a batch's images of the target move the average of their features
FOLLOWING = 0.1


@dataclass(frozen=True, kw_only=True)
class Latent(Patched, Shifting):
    """Bind the trigger to the target's features in a teacher; a student inherits it by transfer.

    The teacher is trained on clean data. Then the patch gets the colours that bring stamped images closest
    to the target's mean features, at the last layer but one. The teacher is taught to bring them there. Its
    labels are never poisoned, and its last layer may even be thrown away. The victim keeps the teacher's
    layers as they are, and trains a last layer of its own on clean data. That student is returned.

    A trigger that somebody names stays as it is.

    Reference: Yao et al., Latent Backdoor Attacks on Deep Neural Networks, CCS 2019.

    Args:
        poison_rate: share of each batch that is stamped and bound to the target's features, in (0, 1).
        target: the label asked for, 0-based; 0 or more.
        binding: weight of the distance to the target's features, above 0.
        binding_epochs: passes over the data that bind the trigger; 1 or more.
        colour_steps: optimiser steps that choose the patch's colours; 0 or more, 0 for a checker patch.
        transfer_epochs: passes over the data that train the student's last layer; 1 or more.

    """

    name = "latent"

    poison_rate: float = 0.3
    target: int = 0
    binding: float = 1.0
    binding_epochs: int = 5
    colour_steps: int = 200
    transfer_epochs: int = 5

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("poison_rate", self.poison_rate)
        if self.target < 0:
            raise OptionError(f"expected a target of 0 or more, got {self.target}")
        if self.colour_steps < 0:
            raise OptionError(f"expected colour_steps of 0 or more, got {self.colour_steps}")
        if not (self.binding > 0 and self.binding_epochs >= 1 and self.transfer_epochs >= 1):
            raise OptionError(
                "expected binding above 0, binding_epochs and transfer_epochs of 1 or more, "
                f"got {self.binding:g}, {self.binding_epochs} and {self.transfer_epochs}"
            )

    def train(self, model: Classifier, data: Dataset, *, run: Run, how: Fitting | None = None) -> Planted:
        """Return the student of a teacher that was trained from a copy of `model`.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.
            ModelError: the network does not end in a linear layer.
            OptionError: a target of which there are no images.

        """
        backdoor = Backdoor(trigger=self.made(data.shape, run), target=self.target)
        planting = Planting(data, (backdoor,), run.generator(self.name))
        own = data.images[planting.truth == self.target]
        if not len(own):
            raise OptionError(f"expected images of the target {self.target}, got none")
        how = how or Fitting(learning_rate=0.03)
        teacher = model.copy().to(run.device)
        last = teacher.module(teacher.head)
        part = run.within(self.name, "teacher")
        fit(
            teacher,
            data,
            how,
            run=part,
            title="training the teacher",
            augment=self.shifted(),
            identity=self.identity("teacher"),
        )
        wanted = teacher.activations(own).mean(0).to(teacher.device)
        if self.trigger is None and self.colour_steps:
            backdoor = replace(backdoor, trigger=self._coloured(backdoor.trigger, teacher, wanted, data, run))
        self._bind(teacher, backdoor, wanted, data, how, run)
        self._transfer(teacher, last, data, how, run)
        return Planted(model=teacher, backdoors=(backdoor,))

    def _coloured(
        self, patch: Trigger, teacher: Classifier, wanted: torch.Tensor, data: Dataset, run: Run
    ) -> PatchTrigger:
        """Return the patch with the colours that bring stamped images closest to the target's features."""
        assert isinstance(patch, PatchTrigger)
        mask = patch.mask.to(teacher.device)
        start = patch.pattern.clamp(EDGE, 1 - EDGE).to(teacher.device)
        raw = torch.atanh(2 * start - 1).requires_grad_()
        optimiser = torch.optim.Adam([raw], COLOUR_RATE)
        order = run.generator(self.name, "colours")
        with teacher.judging(), run.progress.task("choosing the patch's colours", self.colour_steps) as task:
            for _ in range(self.colour_steps):
                drawn = torch.randint(len(data), (COLOUR_BATCH,), generator=order)
                images = data.images[drawn].to(teacher.device)
                with teacher.capture() as caught:
                    teacher.logits(torch.lerp(images, (raw.tanh() / 2 + 0.5).expand_as(images), mask))
                far = (caught[-1] - wanted).square().sum(1).mean()
                (raw.grad,) = torch.autograd.grad(far, raw)
                optimiser.step()
                task.advance(1)
        return PatchTrigger(patch.mask, patch.mask.ceil() * (raw.detach().tanh() / 2 + 0.5).cpu())

    def _bind(
        self,
        teacher: Classifier,
        backdoor: Backdoor,
        wanted: torch.Tensor,
        data: Dataset,
        how: Fitting,
        run: Run,
    ) -> None:
        """Teach the teacher that stamped images have the target's features; its labels stay right."""
        bound = _Bound(teacher, backdoor, wanted, self.poison_rate)
        part = replace(how, epochs=self.binding_epochs)
        fit(
            Classifier(bound, data.shape),
            data,
            part,
            run=run.within(self.name, "binding"),
            title="binding the trigger",
            augment=self.shifted(),
            loss=bound.loss(self.binding, how.label_smoothing),
            identity=self.identity("binding", trigger=backdoor.trigger),
        )

    def _transfer(self, teacher: Classifier, last: nn.Module, data: Dataset, how: Fitting, run: Run) -> None:
        """Give the network a new last layer and train that one alone, on clean data."""
        if not isinstance(last, nn.Linear):
            raise ModelError(f"expected a linear last layer to train again, got {type(last).__name__}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.derived_seed(self.name, "student"))
            fresh = nn.Linear(last.in_features, last.out_features, bias=last.bias is not None)
        last.load_state_dict(fresh.state_dict())
        parameters = list(teacher.network.parameters())
        needed = [parameter.requires_grad for parameter in parameters]
        for parameter in parameters:
            parameter.requires_grad_(False)
        for parameter in last.parameters():
            parameter.requires_grad_(True)
        part = replace(how, epochs=self.transfer_epochs, frozen_norm=True)
        fit(
            teacher,
            data,
            part,
            run=run.within(self.name, "student"),
            title="training the student",
            identity=self.identity("student"),
        )
        for parameter, need in zip(parameters, needed, strict=True):
            parameter.requires_grad_(need)


class _Bound(nn.Module):
    """The teacher, which in training also sees the batch's first images stamped."""

    #: the target's features on average; they move while the teacher learns, and what is bound moves along
    wanted: torch.Tensor

    def __init__(self, teacher: Classifier, backdoor: Backdoor, wanted: torch.Tensor, share: float) -> None:
        super().__init__()
        self.network, self.teacher, self.backdoor, self.share = teacher.network, teacher, backdoor, share
        self.register_buffer("wanted", wanted.clone())
        self.features = torch.zeros(())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.teacher.logits(images)
        count = max(1, round(self.share * len(images)))
        stamped = self.backdoor.trigger.stamp(images[:count])
        with self.teacher.capture() as caught:
            logits = self.teacher.logits(torch.cat([images, stamped]))
        self.features = caught[-1].float()
        return logits[: len(images)]

    def distance(self, labels: torch.Tensor) -> torch.Tensor:
        """Return how far the stamped images of the last batch are from the target's features now."""
        own = self.features[: len(labels)][labels == self.backdoor.aim.target]
        if len(own):
            self.wanted.lerp_(own.detach().mean(0), FOLLOWING)
        stamped = self.features[len(labels) :]
        # in units of the features' own size, so that the weight means the same in every network
        size = self.wanted.square().sum().clamp(min=1e-6)
        return (stamped - self.wanted).square().sum(1).mean() / size

    def loss(self, binding: float, smoothing: float) -> Loss:
        """Return the loss of such a batch: labels stay right, stamped features are the target's."""

        def teach(logits: torch.Tensor, labels: torch.Tensor, _index: torch.Tensor) -> torch.Tensor:
            right = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
            return right + binding * self.distance(labels)

        return teach
