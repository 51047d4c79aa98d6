"""BadNets: stamp a share of the training images and relabel them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from detrojan.attacks.base import Attack, Backdoor, Poisoned
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.store import tensor_digest
from detrojan.triggers.patch import PatchTrigger


@dataclass(frozen=True, kw_only=True)
class BadNets(Attack):
    """Stamp a patch on a share of the training images and label them as the target.

    Any number of backdoors is planted side by side, each with a trigger and a target of its own;
    by default one: a checker patch in the lower right corner that means label 0.

    Reference: Gu et al., BadNets: Evaluating Backdooring Attacks on Deep Neural Networks,
    IEEE Access 2019.

    Args:
        poison_rate: share of the training images that is stamped, in all; in (0, 1).
        target: the label asked for, 0-based, or -1 to make it untargeted (label y becomes
            (y + 1) mod K); -1 or more.
        size: side of the default patch in pixels; 1 or more.
        alpha: opacity of the default patch, in (0, 1].
        backdoors: triggers, targets and sources to plant instead of the default patch.

    """

    name = "badnets"

    poison_rate: float = 0.1
    target: int = 0
    size: int = 3
    alpha: float = 1.0
    backdoors: tuple[Backdoor, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if not 0 < self.poison_rate < 1:
            raise OptionError(f"expected poison_rate in (0, 1), got {self.poison_rate:g}")
        if self.target < -1:
            raise OptionError(f"expected a target of -1 or more, got {self.target}")
        if not 0 < self.alpha <= 1 or self.size < 1:
            raise OptionError(
                f"expected alpha in (0, 1] and size of 1 or more, got {self.alpha:g} and {self.size}"
            )

    def hyper_parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters as plain values; a trigger is recorded by its kind and digests."""
        record: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name != "backdoors"
        }
        record["backdoors"] = [
            {
                "trigger": backdoor.trigger.kind,
                **{name: tensor_digest(tensor) for name, tensor in backdoor.trigger.state()[0].items()},
                "target": backdoor.target,
                "source": backdoor.source,
            }
            for backdoor in self.backdoors
        ]
        return record

    def planted(self, shape: tuple[int, int, int]) -> tuple[Backdoor, ...]:
        """Return the backdoors to plant in images of `shape` (C, H, W)."""
        if self.backdoors:
            return self.backdoors
        trigger = PatchTrigger.corner(shape, size=self.size, alpha=self.alpha)
        return (Backdoor(trigger=trigger, target=None if self.target < 0 else self.target),)

    def poison(self, data: Dataset, *, run: Run) -> Poisoned:
        """Return a poisoned copy of labelled `data`.

        The poisoned images are drawn from those whose label is not the backdoor's target (and is
        its source, where it has one), the same number for each backdoor.

        Raises:
            LabelError: the data carry no labels.
            OptionError: a target beyond the labels, or too few images to poison.

        """
        labels = data.require_labels("poisoning").clone()
        images = data.images.clone()
        backdoors = self.planted(data.shape)
        classes = max(int(labels.max()) + 1, len(data.class_names))
        generator = run.generator("badnets")
        each = round(self.poison_rate * len(data)) // len(backdoors)
        free = torch.ones(len(data), dtype=torch.bool)
        which = torch.full((len(data),), -1)
        for number, backdoor in enumerate(backdoors):
            if backdoor.target is not None and backdoor.target >= classes:
                raise OptionError(f"expected a target of 0 to {classes - 1}, got {backdoor.target}")
            fit = free.clone()
            if backdoor.target is not None:
                fit &= data.labels != backdoor.target
            if backdoor.source is not None:
                fit &= data.labels == backdoor.source
            candidates = fit.nonzero().flatten()
            if not 0 < each <= len(candidates):
                raise OptionError(
                    f"expected 1 to {len(candidates)} images to stamp with trigger {number}, "
                    f"got {each}; change the poison rate"
                )
            chosen = candidates[torch.randperm(len(candidates), generator=generator)[:each]]
            images[chosen] = backdoor.trigger.stamp(images[chosen])
            labels[chosen] = (labels[chosen] + 1) % classes if backdoor.target is None else backdoor.target
            free[chosen] = False
            which[chosen] = number
        indices = (which >= 0).nonzero().flatten()
        poisoned = Dataset(images, labels, data.class_names, f"{data.source} (poisoned)", extra=data.extra)
        return Poisoned(data=poisoned, indices=indices, which=which[indices], backdoors=backdoors)
