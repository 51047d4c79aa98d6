"""Modules that compute what PyTorch has no module for, as Keras computes it."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return TensorFlow's padding before and after: as much as needed, the odd pixel behind."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads, which need not be symmetric."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Return the maps."""
        pads: list[int] = []
        for axis in (1, 0):
            size = input.shape[2 + axis]
            pads += _same_padding(size, self.kernel_size[axis], self.stride[axis], self.dilation[axis])
        return super().forward(functional.pad(input, pads))


class SamePool2d(nn.Module):
    """Pooling padded as TensorFlow pads; padded pixels count neither for the maximum nor the mean."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], *, average: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.average = kernel, stride, average

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the maps."""
        pads: list[int] = []
        for axis in (1, 0):
            pads += _same_padding(maps.shape[2 + axis], self.kernel[axis], self.stride[axis], 1)
        if not self.average:
            padded = functional.pad(maps, pads, value=-math.inf)
            return functional.max_pool2d(padded, self.kernel, self.stride)
        counted = functional.pad(torch.ones_like(maps[:1, :1]), pads)
        mean = functional.avg_pool2d(functional.pad(maps, pads), self.kernel, self.stride)
        return mean / functional.avg_pool2d(counted, self.kernel, self.stride)


class GlobalPool2d(nn.Module):
    """The mean or maximum of each map, (N, C), or (N, C, 1, 1) with `keep`."""

    def __init__(self, *, average: bool, keep: bool) -> None:
        super().__init__()
        self.average, self.keep = average, keep

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return one value per map."""
        if self.average:
            return maps.mean((2, 3), keepdim=self.keep)
        return maps.amax((2, 3), keepdim=self.keep)


class Merge(nn.Module):
    """Several tensors to one: "add", "subtract", "multiply", "average", "maximum" or "concatenate"."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the merged tensor."""
        if self.how == "concatenate":
            return torch.cat(inputs, 1)
        result = inputs[0]
        for other in inputs[1:]:
            if self.how == "subtract":
                result = result - other
            elif self.how == "multiply":
                result = result * other
            elif self.how == "maximum":
                result = torch.maximum(result, other)
            else:
                result = result + other
        return result / len(inputs) if self.how == "average" else result


class Rescale(nn.Module):
    """x * scale + offset, each one value or one per channel."""

    def __init__(self, scale: list[float], offset: list[float]) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the rescaled maps."""
        rest = (1,) * (maps.ndim - 2)
        scale, offset = (maps.new_tensor(values).view(-1, *rest) for values in (self.scale, self.offset))
        return maps * scale + offset


class ReshapeChannelsLast(nn.Module):
    """Reshape in Keras's order: (H, W, C) maps to other (H, W, C) maps."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return maps (N, C, H, W)."""
        last = values.permute(0, 2, 3, 1) if values.ndim == 4 else values
        return last.reshape(len(values), *self.shape).permute(0, 3, 1, 2)


class BoundedReLU(nn.Module):
    """Keras's ReLU with a ceiling, a slope below the threshold, and a threshold."""

    def __init__(self, ceiling: float | None, slope: float, threshold: float) -> None:
        super().__init__()
        self.ceiling, self.slope, self.threshold = ceiling, slope, threshold

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the activations."""
        above = values if self.ceiling is None else values.clamp(max=self.ceiling)
        return torch.where(values >= self.threshold, above, self.slope * (values - self.threshold))


class Exponential(nn.Module):
    """e to the x."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the activations."""
        return values.exp()
