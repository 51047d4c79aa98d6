"""What guards read of a network's layers: each layer's maps in two numbers for each unit."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch

from detrojan.errors import DataError, ModelError
from detrojan.models.classifier import BATCH, Classifier

#: they only reorder or drop numbers
_IDLE = frozenset({"Flatten", "Unflatten", "Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"})


def chosen_layers(model: Classifier, most: int | None = None) -> tuple[str, ...]:
    """Return layers before the answering one, in the order in which they run.

    Where activations are layers of their own, it is those. Pooling layers are left out.

    Args:
        model: the network.
        most: so many at most, spread evenly, the last one among them; None for all.

    Raises:
        ModelError: a network with one layer alone.

    """
    found = [layer for layer in model.layers if layer.kind not in _IDLE and "Pool" not in layer.kind][:-1]
    active = [layer for layer in found if not layer.parameters]
    layers = [layer.name for layer in (active if len(active) > 1 else found)]
    if not layers:
        raise ModelError("expected a network of two layers or more: the guard reads what lies between")
    if most is None or len(layers) <= most:
        return tuple(layers)
    step = (len(layers) - 1) / max(most - 1, 1)
    return tuple(layers[-1 - round(place * step)] for place in reversed(range(most)))


def layers_of_values(model: Classifier, values: Any) -> tuple[str, ...]:
    """Return the names of layers that a guard's file holds.

    Raises:
        DataError: something else, or layers that the network does not have.

    """
    found = values.get("layers") if isinstance(values, dict) else None
    known = {layer.name for layer in model.layers}
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise DataError(f"expected the names of layers, got {found!r:.80}")
    if not set(found) <= known or len(set(found)) < len(found):
        raise DataError(f"expected layers of the network, each once, got {', '.join(found):.80}")
    return tuple(found)


def pooled(
    model: Classifier, images: torch.Tensor, layers: tuple[str, ...]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return what layers put out, and the answers, in one pass.

    Args:
        model: the network.
        images: (N, C, H, W) in [0, 1].
        layers: their names.

    Returns:
        For each layer each unit's mean and deviation over its map, (N, 2 units), or its value where it has
        no map, (N, units), float32; and the labels (N,).

    Raises:
        DataError: images of another shape than the network's.

    """
    model.check(images)
    found: list[list[torch.Tensor]] = [[] for _ in layers]
    labels = []
    with model.judging(), torch.inference_mode():
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            with ExitStack() as stack:
                caught = [stack.enter_context(model.capture(name)) for name in layers]
                labels.append(model.logits(part.to(model.device)).argmax(1).cpu())
                for values, one in zip(found, caught, strict=True):
                    values.append(_summed_up(one[-1]).cpu())
    # joined outside of inference mode, so that the caller may change what comes of it
    return [torch.cat(values) for values in found], torch.cat(labels)


def _summed_up(maps: torch.Tensor) -> torch.Tensor:
    if maps.ndim < 3 or maps[0, 0].numel() == 1:
        return maps.flatten(1).float()
    flat = maps.flatten(2).float()
    return torch.cat([flat.mean(2), flat.std(2, correction=0)], 1)
