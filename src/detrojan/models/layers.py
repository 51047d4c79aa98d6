"""The layers of a network: which there are, in the order in which they run, and what they pass on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Layer:
    """A layer as it was met when the network ran.

    Attributes:
        name: dotted module name.
        kind: class name, e.g. "Conv2d".
        shape: the output's shape without the batch, e.g. (60, 5, 4).
        units: channels or neurons: what pruning removes one by one.
        parameters: number of own parameters.

    """

    name: str
    kind: str
    shape: tuple[int, ...]
    units: int
    parameters: int


def layers_of(network: nn.Module, run: Callable[[], object]) -> tuple[Layer, ...]:
    """Return the layers in the order in which they run, while `run` runs the network once."""
    found: dict[str, Layer] = {}
    asker, handles = threading.get_ident(), []
    for name, module in network.named_modules():
        if next(module.children(), None) is not None or not name:
            continue

        def note(module: nn.Module, _inputs: tuple[Any, ...], output: Any, name: str = name) -> None:
            mine = threading.get_ident() == asker
            if mine and isinstance(output, torch.Tensor) and output.ndim >= 2:
                shape = tuple(output.shape[1:])
                own = sum(p.numel() for p in module.parameters())
                found[name] = Layer(name, type(module).__name__, shape, shape[0], own)

        handles.append(module.register_forward_hook(note))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found.values())


@contextmanager
def captured(module: nn.Module, *, inputs: bool = False) -> Iterator[list[torch.Tensor]]:
    """Collect what a module puts out (or its first input) while the body runs, of this thread's calls alone.

    Args:
        module: any module of a network.
        inputs: collect its inputs and not its outputs.

    """
    caught: list[torch.Tensor] = []
    asker = threading.get_ident()

    def before(_module: nn.Module, given: tuple[Any, ...]) -> None:
        if threading.get_ident() == asker:
            caught.append(given[0])

    def after(_module: nn.Module, _given: tuple[Any, ...], output: torch.Tensor) -> None:
        if threading.get_ident() == asker:
            caught.append(output)

    handle = module.register_forward_pre_hook(before) if inputs else module.register_forward_hook(after)
    try:
        yield caught
    finally:
        handle.remove()
