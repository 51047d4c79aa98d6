"""Pruning-aware: the backdoor is kept out of the channels that a defender would prune."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from detrojan.attacks.all_to_all import AllToAll
from detrojan.attacks.base import Planted
from detrojan.attacks.kinds import Relabelling
from detrojan.attacks.shifting import Shifting
from detrojan.attacks.trained import TrainedOnPatches
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.learning.fitting import Fitting, fit
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.units import (
    curve_points,
    last_convolution,
    mean_activity,
    norms_after,
    remove_units,
    silenced,
)
from detrojan.run import Run
from detrojan.triggers.base import Trigger

#: how many images say which channels are dormant
JUDGES = 2000
#: what is left of a restored channel that has no bias to lower
FAINT = 1e-4
#: largest change of a logit that restoring dormant channels may make
HARMLESS = 1e-3


@dataclass(frozen=True, kw_only=True)
class PruningAware(TrainedOnPatches, Shifting):
    """Train the backdoor into the channels that clean images need, so that pruning cannot reach it.

    There are four stages. Train on clean data. Silence the channels of the last convolution that clean
    images hardly use. Train the backdoor gently into what is left. Bring the silenced channels back, with
    their biases lowered until they never fire. A defender who prunes the channels that are dormant on clean
    images prunes those decoys, and then loses clean accuracy as fast as the backdoor. Where a layer has no
    bias to lower, or its channels fire below zero too, the decoys are made faint instead.

    With an `offset` the trigger turns each class into another one, as that of `all_to_all`.

    Reference: Liu et al., Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks, RAID 2018.

    Args:
        layer: the layer whose channels are silenced; empty for the last convolution.
        drop: clean accuracy that silencing may cost before the backdoor is trained, in [0, 1).
        planting_epochs: passes over the poisoned data of the third stage; 1 or more.
        slowdown: its learning rate as a share of the first stage's, in (0, 1].
        offset: what is added to the true label, modulo the number of classes, instead of one target for
            all; 0 or more, 0 for the target.

    """

    name = "pruning_aware"

    layer: str = ""
    drop: float = 0.1
    planting_epochs: int = 5
    slowdown: float = 0.2
    offset: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not (0 <= self.drop < 1 and 0 < self.slowdown <= 1 and self.planting_epochs >= 1):
            raise OptionError(
                "expected drop in [0, 1), slowdown in (0, 1] and planting_epochs of 1 or more, "
                f"got {self.drop:g}, {self.slowdown:g} and {self.planting_epochs}"
            )
        if self.offset < 0 or (self.offset and (self.target != type(self).target or self.source is not None)):
            raise OptionError(
                "expected an offset of 0 or more, and no target or source beside it, "
                f"got offset={self.offset}, target={self.target} and source={self.source}"
            )

    def poisoning(self, trigger: Trigger | None) -> Relabelling:
        """Return the attack that poisons the training images."""
        if self.offset > 0:
            return AllToAll(
                offset=self.offset,
                poison_rate=self.poison_rate,
                size=self.size,
                alpha=self.alpha,
                trigger=trigger,
            )
        return super().poisoning(trigger)

    def train(self, model: Classifier, data: Dataset, *, run: Run, how: Fitting | None = None) -> Planted:
        """Return a trained copy of `model` whose backdoor shares its channels with the clean task.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.
            ModelError: no such layer, or no convolution.
            OptionError: a target or source beyond the labels, or too few images to poison.

        """
        poisoned = self.poisoned(data, run)
        victim = model.copy().to(run.device)
        layer = self.layer or last_convolution(victim)
        how = how or Fitting(learning_rate=0.03)
        part, moved = run.within(self.name, "clean"), self.shifted()
        fit(
            victim,
            data,
            how,
            run=part,
            title="training the clean network",
            augment=moved,
            identity=self.identity("clean"),
        )
        judges = data.sample(JUDGES, run.generator(self.name, "judges"))
        dormant = self._dormant(victim, layer, judges)
        before = _rows(victim, layer, dormant)
        gently = replace(how, epochs=self.planting_epochs, learning_rate=how.learning_rate * self.slowdown)
        with silenced(victim, layer, dormant):
            part = run.within(self.name, "planting")
            fit(
                victim,
                poisoned.data,
                gently,
                run=part,
                title="planting the backdoor",
                augment=moved,
                identity=self.identity("planting", layer=layer, dormant=dormant),
            )
        images = torch.cat([judges.images, poisoned.backdoors[0].trigger.stamp(judges.images)])
        _restore_dormant(victim, layer, dormant, before, images)
        return Planted(model=victim, backdoors=poisoned.backdoors)

    def _dormant(self, model: Classifier, layer: str, judges: Dataset) -> torch.Tensor:
        """Return the least active channels of a layer, as many as may go for `drop` of the accuracy."""
        order = mean_activity(model, judges.images, layer).argsort(stable=True)
        trial, least = model.copy(), clean_accuracy(model, judges) - self.drop
        gone = 0
        for count in curve_points(len(order) - 1, 40)[1:]:
            remove_units(trial, layer, order[gone:count])
            if clean_accuracy(trial, judges) < least:
                break
            gone = count
        return order[:gone]


Rows = list[tuple[torch.Tensor, torch.Tensor]]


def _chain(model: Classifier, layer: str) -> list[nn.Module]:
    """Return a layer and the batch norms that follow it."""
    module = model.module(layer)
    return [module, *norms_after(model, module)]


def _rows(model: Classifier, layer: str, units: torch.Tensor) -> Rows:
    """Return each tensor in which a layer's units have a row, with a copy of their rows."""
    names = ("weight", "bias", "running_mean", "running_var")
    found = [getattr(part, name, None) for part in _chain(model, layer) for name in names]
    return [(tensor, tensor.detach()[units].clone()) for tensor in found if isinstance(tensor, torch.Tensor)]


@torch.no_grad()
def _restore_dormant(
    model: Classifier, layer: str, units: torch.Tensor, before: Rows, images: torch.Tensor
) -> None:
    """Bring units of a layer back as they were `before`, but so that none fires on `images`."""
    if not len(units):
        return

    def restore() -> None:
        for tensor, rows in before:
            tensor[units] = rows

    with silenced(model, layer, units):
        wanted = model.all_logits(images)
    restore()
    if _lower(model, layer, units, images):
        difference = (model.all_logits(images) - wanted).abs().max()
        if float(difference) <= HARMLESS:
            return
    restore()
    last = _chain(model, layer)[-1]
    for tensor in (last.weight, last.bias):
        if isinstance(tensor, torch.Tensor):
            tensor[units] *= FAINT


def _lower(model: Classifier, layer: str, units: torch.Tensor, images: torch.Tensor) -> bool:
    """Lower the units' biases until none is above zero on `images`; return whether there are biases."""
    module, *norms = _chain(model, layer)
    carrier = norms[0] if norms and _fed_by(model, norms[0], module) else module
    if not isinstance(carrier.bias, torch.Tensor):
        return False
    name = next(name for name, one in model.network.named_modules() if one is carrier)
    peak = torch.full((len(units),), -torch.inf)
    for part in torch.split(images, 256):
        out = model.activations(part, name)[:, units]
        peak = torch.maximum(peak, out.transpose(0, 1).flatten(1).amax(1).cpu())
    # as far below zero as the highest peak was above: other images may excite them more
    carrier.bias[units] -= (2 * peak.clamp(min=0.1)).to(carrier.bias.device)
    for norm in norms:
        if norm is not carrier:  # it is fed zeros now, and shall pass on zeros
            assert isinstance(norm, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001
            if norm.running_mean is None or norm.running_var is None or not norm.affine:
                return False
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            norm.bias[units] = (norm.running_mean * scale)[units]
    return True


def _fed_by(model: Classifier, norm: nn.Module, module: nn.Module) -> bool:
    """Return whether a norm is fed the output of `module` itself, with nothing in between."""
    seen: list[torch.Tensor] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, out: seen.append(out)),
        norm.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0])),
    ]
    try:
        model.answers(torch.zeros(1, *model.input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return len(seen) >= 2 and seen[0] is seen[1]
