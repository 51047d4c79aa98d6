"""Finds out from a network's first layers which range of images it expects."""

from __future__ import annotations

import torch
from torch import nn

from detrojan.models.formats.keras.modules import Crop2d, Normalise, Reorder, Rescale, Resize
from detrojan.models.formats.keras.network import KerasGraph
from detrojan.models.formats.keras.operations import Operation
from detrojan.models.preprocessing import Preprocessing

#: modules that change values by the same factor and shift everywhere, or not at all
_FRONT = (Crop2d, Normalise, Reorder, Rescale, Resize, Operation, nn.Identity, nn.Dropout)
#: operations that may be among them
_LINEAR = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "get_item",
    "stack",
    "identity",
    "transpose",
    "concatenate",
)
#: a factor below this leaves no contrast to images in 0..1: the images are 0..255
_FAINT = 0.05
#: a mean beyond this is none of images in 0..1 or -1..1
_FAR = 20.0


def stated_preprocessing(graph: KerasGraph, shape: tuple[int, int, int]) -> Preprocessing | None:
    """Return the range of images that a network's first layers expect; None where they do not say.

    Args:
        graph: the network with its weights.
        shape: (C, H, W).

    """
    line = _line(graph, shape)
    if line is None:
        return None
    scale, offset = line
    if not (torch.isfinite(scale).all() and torch.isfinite(offset).all() and bool((scale > 0).all())):
        return None
    black = float((-offset / scale).mean())
    factor = float(scale.mean())
    if factor < _FAINT or black > _FAR:
        return Preprocessing(low=0.0, high=255.0)
    if abs(factor - 0.5) < 1e-3 and abs(black + 1) < 1e-3:
        return Preprocessing(low=-1.0, high=1.0)
    return None


def _line(graph: KerasGraph, shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return factor and shift of the first layers, as far as they are linear by pixel, or None."""
    values = {0: torch.stack([torch.full(shape, level) for level in (0.0, 1.0)])}
    last, moved = 0, False
    with torch.no_grad():
        for name, inputs, output in graph.steps:
            module = graph.get_submodule(name)
            known = all(number in values for number in inputs)
            linear = isinstance(module, _FRONT) and getattr(module, "name", "add") in _LINEAR
            if not (known and linear):
                break
            module.eval()
            values[output] = module(*(values[number] for number in inputs))
            last, moved = output, moved or isinstance(module, Normalise | Rescale | Operation)
    if not moved:
        return None
    black, white = values[last]
    return (white - black).flatten(), black.flatten()
