"""Modules that compute what PyTorch has no module for, as ONNX defines it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from detrojan.models.formats.onnx.values import PerImage, Size


class Apply(nn.Module):
    """A function of PyTorch with fixed keyword arguments."""

    def __init__(self, function: Callable[..., Any], **fixed: Any) -> None:
        super().__init__()
        self.function, self.fixed = function, fixed

    def forward(self, *values: torch.Tensor) -> Any:
        """Return what the function returns."""
        return self.function(*values, **self.fixed)

    def extra_repr(self) -> str:
        """Name the function."""
        return f"{getattr(self.function, '__name__', self.function)}, {self.fixed}"


class Folded(nn.Module):
    """A function of two values, applied to one after the other."""

    def __init__(self, function: Callable[..., torch.Tensor], divisor: float = 1.0) -> None:
        super().__init__()
        self.function, self.divisor = function, divisor

    def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """Return the result."""
        for other in others:
            first = self.function(first, other)
        return first if self.divisor == 1 else first / self.divisor


class Joined(nn.Module):
    """Several tensors joined along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """Return one tensor."""
        return torch.cat(values, self.axis)


class Shaped(nn.Module):
    """Reshape, expand or repeat, by sizes of which some may grow with the number of images."""

    def __init__(self, how: str, sizes: Sequence[Size]) -> None:
        super().__init__()
        self.how, self.sizes = how, tuple(sizes)

    def forward(self, values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return the values in their new shape; of `images` only the number counts."""
        shape = [one.times * images.shape[0] if isinstance(one, PerImage) else one for one in self.sizes]
        if self.how == "reshape":
            return values.reshape(shape)
        return values.expand(shape) if self.how == "expand" else values.repeat(shape)

    def extra_repr(self) -> str:
        """Name the sizes."""
        return f"{self.how}, {self.sizes}"


class Clamp(nn.Module):
    """Values kept between two limits."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values within the limits."""
        return values.clamp(self.low, self.high)


class HardSigmoid(nn.Module):
    """alpha * x + beta, kept between 0 and 1."""

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the activations."""
        return (self.alpha * values + self.beta).clamp(0, 1)


class PaddedConv2d(nn.Conv2d):
    """A convolution with another padding on each side: (left, right, top, bottom)."""

    sides: tuple[int, int, int, int]

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Return the maps."""
        return super().forward(functional.pad(input, self.sides))


class PaddedPool2d(nn.Module):
    """Pooling with another padding on each side: (left, right, top, bottom).

    Args:
        pool: without padding of its own.
        sides: the padding.
        average: a mean; the maximum otherwise.
        counted: whether padded pixels count for the mean.

    """

    def __init__(
        self, pool: nn.Module, sides: tuple[int, int, int, int], *, average: bool, counted: bool
    ) -> None:
        super().__init__()
        self.pool, self.sides, self.average, self.counted = pool, sides, average, counted

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the maps."""
        padded = functional.pad(maps, self.sides, value=0.0 if self.average else -math.inf)
        pooled: torch.Tensor = self.pool(padded)
        if not self.average or self.counted:
            return pooled
        seen: torch.Tensor = self.pool(functional.pad(torch.ones_like(maps[:1, :1]), self.sides))
        return pooled / seen


class Sliced(nn.Module):
    """Every step-th value from a start to an end, along some axes."""

    def __init__(self, cuts: dict[int, slice]) -> None:
        super().__init__()
        self.cuts = cuts

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the part."""
        return values[tuple(self.cuts.get(axis, slice(None)) for axis in range(max(self.cuts) + 1))]


class Picked(nn.Module):
    """The entries of an axis by their numbers, which may have any shape.

    Args:
        numbers: 0 or more each.
        axis: 0 or more.

    """

    numbers: torch.Tensor

    def __init__(self, numbers: torch.Tensor, axis: int) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers.reshape(-1), persistent=False)
        self.form, self.axis = tuple(numbers.shape), axis

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the entries."""
        found = values.index_select(self.axis, self.numbers)
        if len(self.form) == 1:
            return found
        shape = (*found.shape[: self.axis], *self.form, *found.shape[self.axis + 1 :])
        return found.reshape(shape)


class Parts(nn.Module):
    """A tensor cut into parts of the given lengths along an axis."""

    def __init__(self, lengths: Sequence[int], axis: int) -> None:
        super().__init__()
        self.lengths, self.axis = list(lengths), axis

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the parts."""
        return torch.split(values, self.lengths, self.axis)


class FlatSoftmax(nn.Module):
    """The softmax of ONNX before version 13: over all axes from one on."""

    def __init__(self, axis: int, *, log: bool) -> None:
        super().__init__()
        self.axis, self.log = axis, log

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the shares."""
        flat = values.flatten(self.axis)
        shares = flat.log_softmax(-1) if self.log else flat.softmax(-1)
        return shares.reshape(values.shape)


class Gemm(nn.Module):
    """alpha * A' B' + beta * C."""

    def __init__(self, alpha: float, beta: float, *, turn_a: bool, turn_b: bool) -> None:
        super().__init__()
        self.alpha, self.beta, self.turn_a, self.turn_b = alpha, beta, turn_a, turn_b

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, added: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the product."""
        product = (first.T if self.turn_a else first) @ (second.T if self.turn_b else second)
        product = product if self.alpha == 1 else self.alpha * product
        return product if added is None else product + self.beta * added


class Normalised(nn.Module):
    """Layer, batch or instance normalisation by tensors that are not its own.

    Args:
        how: "layer", "batch", "instance", "group" or "rms".
        epsilon: added to the variance.
        shape: the axes that are normalised, for "layer" and "rms".
        groups: for "group".

    """

    def __init__(self, how: str, epsilon: float, shape: Sequence[int] = (), groups: int = 1) -> None:
        super().__init__()
        self.how, self.epsilon, self.shape, self.groups = how, epsilon, list(shape), groups

    def forward(self, values: torch.Tensor, scale: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """Return the normalised values."""
        shift = others[0] if others else None
        if self.how == "layer":
            return functional.layer_norm(values, self.shape, scale, shift, self.epsilon)
        if self.how == "rms":
            return functional.rms_norm(values, self.shape, scale, self.epsilon)
        if self.how == "group":
            return functional.group_norm(values, self.groups, scale, shift, self.epsilon)
        if self.how == "instance":
            return functional.instance_norm(values, None, None, scale, shift, eps=self.epsilon)
        _, mean, variance = others
        return functional.batch_norm(values, mean, variance, scale, shift, eps=self.epsilon)
