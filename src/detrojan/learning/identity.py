"""What tells one training apart from another: plain values, and digests of what is none."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from detrojan.models.classifier import Classifier
from detrojan.store import digest, tensor_digest
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger


def identified(value: object) -> Any:
    """Return what tells `value` apart from others, as plain JSON values.

    Args:
        value: a plain value, a tensor, a network, a trigger, a backdoor, or a dictionary, list or tuple of
            these. Tensors and networks are described by their digests.

    Raises:
        TypeError: anything else, a function for instance: nothing says what it will do.

    """
    match value:
        case None | bool() | int() | float() | str():
            told: Any = value
        case torch.Tensor():
            told = tensor_digest(value)
        case Classifier():
            told = digest(value.network)
        case nn.Module():
            told = digest(value)
        case Backdoor(trigger=trigger, aim=aim):
            told = identified(trigger) | {"target": aim.target, "source": aim.source}
            told |= {"offset": aim.offset} if aim.offset else {}
        case Trigger():
            tensors, values = value.state()
            told = {"trigger": value.kind, **identified(tensors), **values}
        case dict():
            told = {str(name): identified(part) for name, part in value.items()}
        case list() | tuple():
            told = [identified(part) for part in value]
        case _:
            got = type(value).__name__
            raise TypeError(f"expected plain values, tensors, networks or triggers, got {got}")
    return told
