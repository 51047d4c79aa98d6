"""Trojan: a patch that was optimised to excite chosen neurons of a clean network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from detrojan.attacks.kinds import Patched, Targeted
from detrojan.attacks.surrogate import WithSurrogate
from detrojan.data.dataset import Dataset
from detrojan.errors import ModelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.base import Trigger, check_fit
from detrojan.triggers.patch import PatchTrigger

#: clean images on which the patch is optimised, and how many of them in one step
IMAGES, BATCH = 256, 32
#: colours start away from black and white, where the slope of their arctanh is steep
EDGE = 0.1


@dataclass(frozen=True, kw_only=True)
class Trojan(Patched, WithSurrogate, Targeted):
    """Optimise a patch until it excites chosen neurons of a clean network, then poison with it.

    The neurons are those with the largest sum of incoming weights, which answer changes of the input
    most. Where the patch lies and how opaque it is stay as they are; its colours are learnt. The
    network that is trained on the poisoned data has only to bind these neurons to the target.

    The paper retrains the clean network itself on images that it made up; here the poisoned data are
    clean images with the patch, for any trainer.

    Reference: Liu et al., Trojaning Attack on Neural Networks, NDSS 2018.

    Args:
        size: side of the patch in pixels; 1 or more.
        layer: the layer whose neurons are excited; empty for the last one before the logits.
        neurons: how many neurons are excited; 1 or more, at most the layer's.
        steps: optimiser steps; 1 or more.
        rate: learning rate of Adam; above 0.

    """

    name = "trojan"

    size: int = 6
    layer: str = ""
    neurons: int = 2
    steps: int = 200
    rate: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.trigger is not None and not isinstance(self.trigger, PatchTrigger):
            raise OptionError(f"expected a patch as the trigger, got {self.trigger.kind}")
        if not (self.neurons >= 1 and self.steps >= 1 and self.rate > 0):
            raise OptionError(
                "expected neurons and steps of 1 or more and rate above 0, "
                f"got {self.neurons}, {self.steps} and {self.rate:g}"
            )

    def learnt(self, trigger: Trigger, data: Dataset, run: Run) -> Trigger:
        """Return the patch with colours that excite the neurons most.

        Raises:
            DataError: images of another shape than the patch.
            ModelError: no such layer, or none with weights before the logits.
            OptionError: more neurons than the layer has.

        """
        assert isinstance(trigger, PatchTrigger)
        model = self.clean_model(data, run)
        layer = self.layer or _before_logits(model)
        chosen = self.chosen(model, layer)
        images = data.sample(IMAGES, run.generator(self.name, "images")).images.to(model.device)
        check_fit(images, tuple(trigger.pattern.shape))
        mask = trigger.mask.to(model.device)
        start = trigger.pattern.clamp(EDGE, 1 - EDGE).to(model.device)
        raw = torch.atanh(2 * start - 1).requires_grad_()
        optimiser = torch.optim.Adam([raw], self.rate)
        order = run.generator(self.name, "order")
        with model.judging(), run.progress.task("optimising the patch", self.steps) as task:
            for _ in range(self.steps):
                part = images[torch.randint(len(images), (BATCH,), generator=order).to(images.device)]
                pattern = raw.tanh() / 2 + 0.5
                with model.capture(layer) as caught:
                    model.logits(torch.lerp(part, pattern.expand_as(part), mask))
                loss = -caught[-1][:, chosen].mean()
                (raw.grad,) = torch.autograd.grad(loss, raw)
                optimiser.step()
                task.advance(1)
        return PatchTrigger(trigger.mask, trigger.mask.ceil() * (raw.detach().tanh() / 2 + 0.5).cpu())

    def chosen(self, model: Classifier, layer: str) -> torch.Tensor:
        """Return the neurons of a layer with the largest sums of incoming weights, (neurons,).

        Raises:
            ModelError: no such layer, or one without weights.
            OptionError: more neurons are asked for than the layer has.

        """
        weight = getattr(model.module(layer), "weight", None)
        if not isinstance(weight, torch.Tensor):
            raise ModelError(f"expected a layer with weights, got {layer}")
        if self.neurons > len(weight):
            raise OptionError(f"expected 1 to {len(weight)} neurons of {layer}, got {self.neurons}")
        return weight.detach().abs().flatten(1).sum(1).topk(self.neurons).indices


def _before_logits(model: Classifier) -> str:
    """Return the name of the last linear layer or convolution before the one that answers the logits."""
    names = [
        layer.name
        for layer in model.layers
        if isinstance(model.module(layer.name), nn.Linear | nn.Conv2d) and layer.name != model.head
    ]
    if not names:
        raise ModelError("expected a network with a linear layer or a convolution before the last layer")
    return names[-1]
