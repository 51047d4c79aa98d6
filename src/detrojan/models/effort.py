"""What a network's answer will cost, found before it is asked: memory and multiplications."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.quarantine import check_room
from detrojan.quarantine.limits import memory

#: images that are asked about first
_IMAGES = 2
_BYTES = 4
#: multiplications for them; the largest networks of the field take a twentieth of it
_MOST_WORK = 10**13
#: values of an image beyond which a network that cannot be looked through is not asked
_MOST_BLIND = 1 << 22


@dataclass
class _Effort:
    """What one answer takes: values held at once by the hungriest module, and multiplications."""

    values: int = 0
    work: int = 0

    def see(self, module: nn.Module, output: Any) -> None:
        if not isinstance(output, torch.Tensor):
            return
        values = output.numel()
        if isinstance(module, nn.Conv2d):
            window = math.prod(module.kernel_size) * module.in_channels
            values += window * math.prod(output.shape[-2:]) * len(output)
            self.work += output.numel() * window // module.groups
        elif isinstance(module, nn.Linear):
            self.work += output.numel() * module.in_features
        self.values = max(self.values, values)


def check_effort(network: nn.Module, shape: tuple[int, int, int], path: Path, *, plain: bool = False) -> None:
    """Refuse a network whose first answer would fill the memory, or take minutes.

    It runs without values: tensors have shapes alone. A network that cannot run so is
    refused only for very large images. What a plain network takes at most is known without
    running it. Where that is little it does not run, which saves a second of PyTorch's imports.

    Args:
        network: the network with its weights.
        shape: (C, H, W) of the images.
        path: its file, for error texts.
        plain: it applies each weight once per place of the image, or less often, as `nets` do.

    Raises:
        ModelError: it takes more memory than reading a file may, or too long.

    """
    if plain and _takes_little(network, shape):
        return
    effort, size = _Effort(), "x".join(map(str, shape))
    check_room(_IMAGES * _BYTES * math.prod(shape), f"{path}: images of {size}", ModelError)
    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    handles = [
        module.register_forward_hook(lambda module, _inputs, output: effort.see(module, output))
        for module in leaves
    ]
    try:
        _run_without_values(network, shape)
    except Exception as error:  # a network of anybody's may raise anything
        if math.prod(shape) > _MOST_BLIND:
            raise ModelError(
                f"{path}: expected images of at most {_MOST_BLIND:,} values for a network whose effort "
                f"cannot be told beforehand, got {size}"
            ) from error
        return
    finally:
        for handle in handles:
            handle.remove()
    check_room(_BYTES * effort.values, f"{path}: an answer for images of {size}", ModelError)
    if effort.work > _MOST_WORK:
        raise ModelError(
            f"{path}: expected at most {_MOST_WORK:.0e} multiplications for {_IMAGES} images of {size}, "
            f"got {effort.work:.1e}"
        )


def _takes_little(network: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether a plain network stays far below both limits, if each layer were as wide as the image."""
    places = _IMAGES * math.prod(shape[1:])
    work = places * sum(weights.numel() for weights in network.parameters())
    widths = [
        module.out_channels + math.prod(module.kernel_size) * module.in_channels
        if isinstance(module, nn.Conv2d)
        else getattr(module, "out_features", 0)
        for module in network.modules()
    ]
    return work < _MOST_WORK / 10 and _BYTES * places * max(shape[0], *widths) < memory()


def _run_without_values(network: nn.Module, shape: tuple[int, int, int]) -> None:
    tensors = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.no_grad(), torch.device("meta"):
            torch.func.functional_call(network, tensors, (torch.empty(_IMAGES, *shape),))
    finally:
        for module, mode in modes:
            module.training = mode
