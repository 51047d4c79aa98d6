"""The units of a layer: how active they are, which is the last convolution, and how to silence them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.classifier import BATCH, Classifier
from detrojan.models.layers import Layer

#: modules that answer a unit of zeros with zeros, between a layer and its batch norm
SILENT = (
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Identity, nn.Dropout, nn.Dropout2d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
)


def convolutions(model: Classifier) -> list[Layer]:
    """Return the convolutional layers in the order in which they run."""
    found = []
    for layer in model.layers:
        weight = getattr(model.module(layer.name), "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim >= 3 and len(layer.shape) >= 2:
            found.append(layer)
    return found


def last_convolution(model: Classifier) -> str:
    """Return the name of the convolutional layer that runs last.

    Raises:
        ModelError: the network has none.

    """
    found = convolutions(model)
    if not found:
        known = ", ".join(layer.name for layer in model.layers)
        raise ModelError(
            f"expected a network with a convolutional layer; name a layer out of {known} instead"
        )
    return found[-1].name


def per_unit(active: torch.Tensor) -> torch.Tensor:
    """Return the mean of each unit (U,) of a layer's outputs (N, U) or (N, U, ...)."""
    return active.flatten(2).mean((0, 2)) if active.ndim > 2 else active.mean(0)


@contextmanager
def caught_activity(model: Classifier, layers: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """While the body runs the network, keep what each layer passes on: the positive part of its output.

    Where a batch norm follows a layer, its output counts: before it, the scale of a unit says nothing.
    """
    caught: dict[str, torch.Tensor] = {}
    handles = []

    def keep(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(_m: nn.Module, _i: object, out: torch.Tensor) -> None:
            caught[name] = out.relu()

        return hook

    for name in layers:
        module = model.module(name)
        norms = norms_after(model, module)
        handles.append((norms[-1] if norms else module).register_forward_hook(keep(name)))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def mean_activity(model: Classifier, images: torch.Tensor, layer: str) -> torch.Tensor:
    """Return how active each unit of a layer is on average over `images` (N, C, H, W): (U,), 0 or more."""
    total = torch.zeros(())
    with model.judging(), torch.inference_mode(), caught_activity(model, [layer]) as caught:
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            model.logits(part.to(model.device))
            total = total + per_unit(caught[layer]).cpu().double() * len(part)
    return total.clone() / len(images)


def curve_points(count: int, most: int) -> list[int]:
    """Return at most `most` numbers from 0 to `count`, both among them, ascending."""
    points: list[int] = torch.linspace(0, count, min(most, count + 1)).round().int().tolist()
    return points


def remove_units(model: Classifier, layer: str, units: torch.Tensor) -> None:
    """Silence units of a layer with weights: their outputs, and what a batch norm makes of them."""
    module = model.module(layer)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        raise ModelError(f"expected a layer with weights to prune, got {layer} ({type(module).__name__})")
    with torch.no_grad():
        for part in (module, *norms_after(model, module)):
            # a norm without scale and shift of its own still moves by its running mean
            for tensor in (part.weight, part.bias, getattr(part, "running_mean", None)):
                if isinstance(tensor, torch.Tensor):
                    tensor[units] = 0


@contextmanager
def silenced(model: Classifier, layer: str, units: torch.Tensor) -> Iterator[None]:
    """While the body runs or trains the network, let units of a layer answer zeros, weights untouched.

    Where batch norms follow the layer, it is the output of the last one that is zero.
    """
    module = model.module(layer)
    end = [module, *norms_after(model, module)][-1]

    def hook(_m: nn.Module, _i: object, out: torch.Tensor) -> torch.Tensor:
        heard = torch.ones(out.shape[1], device=out.device, dtype=out.dtype)
        heard[units.to(out.device)] = 0
        return out * heard.view(-1, *[1] * (out.ndim - 2))

    handle = end.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def norms_after(model: Classifier, module: nn.Module) -> list[nn.Module]:
    """Return the batch norms that are fed the output of `module`, directly or through `SILENT` modules."""
    outputs: list[torch.Tensor] = []
    found: list[nn.Module] = []
    handles = [module.register_forward_hook(lambda _m, _i, out: outputs.append(out))]

    def follow(part: nn.Module) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(_m: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            if any(inputs[0] is known for known in outputs):
                if isinstance(part, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
                    found.append(part)
                else:
                    outputs.append(out)

        return hook

    passing = (nn.modules.batchnorm._BatchNorm, *SILENT)  # noqa: SLF001
    follows = [m for m in model.network.modules() if isinstance(m, passing) and m is not module]
    handles.extend(part.register_forward_hook(follow(part)) for part in follows)
    try:
        model.answers(torch.zeros(1, *model.input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return found
