"""The N+1 class answer: a network that says "this input is backdoored" in one more class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.answers import output_of
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.formats.base import format_named

#: the name of class N
BACKDOORED = "backdoored"


class NPlusOne(nn.Module):
    """Answer class N where the original falls for a target that the repaired copy does not see.

    The repair is the detector: on an input without a trigger the two networks agree, while on a
    backdoored input only the original answers the target. No poisoned data are needed to build it.
    Answers that are no finite numbers are class N as well: whoever made the original can make it overflow.

    Args:
        original: the network as it was delivered; answers N logits.
        repaired: its repaired copy.
        targets: the labels that a scan has flagged.

    """

    targets: torch.Tensor

    def __init__(self, original: nn.Module, repaired: nn.Module, targets: Sequence[int]) -> None:
        super().__init__()
        self.original = original
        self.repaired = repaired
        self.register_buffer("targets", torch.tensor(sorted(set(targets)), dtype=torch.int64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return N + 1 logits: the repaired network's, and last the one for "backdoored".

        Where those of a network are no finite numbers, or too large to add to, all are 0 but the last.
        """
        answered: torch.Tensor = self.original(images)
        delivered = answered.argmax(1)
        logits: torch.Tensor = self.repaired(images)
        fell = torch.isin(delivered, self.targets) & (logits.argmax(1) != delivered)
        low, high = logits.amin(1), logits.amax(1)
        gap = high - low + 1
        above = high + gap
        lost = ~(answered.isfinite().all(1) & logits.isfinite().all(1))
        # logits so large that rounding swallows the gap would hide class N
        lost |= fell & ~((above > high) & above.isfinite())
        extra = torch.where(fell, above, low - gap).masked_fill(lost, 1)
        return torch.cat([logits.masked_fill(lost[:, None], 0), extra[:, None]], 1)


def n_plus_one(original: Classifier, repaired: Classifier, targets: Sequence[int]) -> Classifier:
    """Return a classifier of N + 1 classes, the last of them "backdoored".

    Where the original's classes have no names, they are given their numbers.

    Args:
        original: the model as it was delivered.
        repaired: its repaired copy.
        targets: the labels that a scan has flagged.

    Raises:
        ModelError: the two do not fit together, or no target is given.

    """
    if not targets:
        raise ModelError("expected at least one target label; a scan names them")
    if (original.num_classes, original.input_shape) != (repaired.num_classes, repaired.input_shape):
        raise ModelError(
            f"expected a repaired copy with {original.num_classes} classes and images of shape "
            f"{original.input_shape}, got {repaired.num_classes} and {repaired.input_shape}"
        )
    if original.preprocessing != repaired.preprocessing:
        raise ModelError(
            f"expected a repaired copy with the preprocessing {original.preprocessing}, "
            f"got {repaired.preprocessing}"
        )
    wrong = [target for target in targets if not 0 <= target < original.num_classes]
    if wrong:
        raise ModelError(
            f"expected targets of 0 to {original.num_classes - 1}, got {', '.join(map(str, wrong))}"
        )
    kind = format_named(original.origin.format)
    if kind is not None and kind.copies and not (original.origin.net or kind.describe(original)):
        raise ModelError(
            f"expected a network that a file of two can describe, got one out of {kind.kind}, which only a "
            "copy of that file holds; it can be repaired, but not joined to one of N + 1 classes"
        )
    names = original.class_names or tuple(map(str, range(original.num_classes)))
    network = NPlusOne(original.copy().network, repaired.copy().network, targets)
    origin = Origin(
        net=f"{original.origin.net or 'network'}+1",
        details={
            "targets": sorted(set(targets)),
            "n_plus_one": {"original": describe(original), "repaired": describe(repaired)},
        },
    )
    return Classifier(
        network.eval(),
        original.input_shape,
        preprocessing=repaired.preprocessing,
        class_names=(*names, BACKDOORED),
        origin=origin,
    )


def describe(model: Classifier) -> dict[str, Any]:
    """Return what a file must say of one of the two networks, as plain JSON values.

    That is its name (or its factory's), which of its outputs is judged, and what its format says of it.
    """
    kind = format_named(model.origin.format)
    output = output_of(model.network)
    return {
        "net": model.origin.net,
        **({"output": output} if output else {}),
        **({} if kind is None else kind.describe(model)),
    }


def backdoored_class(model: Classifier) -> int | None:
    """Return the label with which a model of N + 1 classes reports a backdoored input, else None."""
    found = not model.answers_only and isinstance(model.network, NPlusOne)
    return model.num_classes - 1 if found else None


def own_classes(model: Classifier) -> int:
    """Return how many classes a model tells apart, without the one that reports backdoored inputs."""
    return model.num_classes - (backdoored_class(model) is not None)
