"""Finds the linear layers whose columns stand in another order in Keras than in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.nets import FlattenChannelsLast

Maps = tuple[int, int, int]


class _Watch:
    """Remembers the last maps that were not yet flattened channels last, while a network runs."""

    def __init__(self) -> None:
        self.maps: Maps | None = None
        self.found: dict[str, Maps] = {}

    def see(self, name: str, module: nn.Module, output: Any) -> None:
        if isinstance(module, nn.Linear):
            if self.maps is not None and self.maps[0] * self.maps[1] * self.maps[2] == module.in_features:
                self.found[name] = self.maps
            self.maps = None
        elif isinstance(module, FlattenChannelsLast):
            self.maps = None
        elif isinstance(output, torch.Tensor) and output.ndim == 4:
            channels, height, width = output.shape[1:]
            # one pixel flattens the same either way
            self.maps = (channels, height, width) if height * width > 1 else None


def rows_after_flatten(network: nn.Module, shape: Maps) -> dict[str, Maps]:
    """Return the linear layers that are fed maps flattened channels first, with the maps' (C, H, W).

    Keras flattens channels last, so the columns of these layers need another order.

    Raises:
        ModelError: the network does not run on images of this shape.

    """
    watch = _Watch()
    leaves = [(n, m) for n, m in network.named_modules() if next(m.children(), None) is None]
    handles = [
        module.register_forward_hook(lambda m, _inputs, output, name=name: watch.see(name, m, output))
        for name, module in leaves
    ]
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"the network does not run on images of shape {shape}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return watch.found
