"""Modules that compute what PyTorch has no module for, as Keras computes it.

What depends on a size that is only known when the network runs stands in functions that tracing leaves
whole, so that searches can rewrite these networks as they do others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import fx, nn
from torch.nn import functional

#: the least that Keras's Normalization divides by
_LEAST_DEVIATION = 1e-7


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return TensorFlow's padding before and after: as much as needed, the odd pixel behind."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


@fx.wrap
def pad_same(
    maps: torch.Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    value: float,
) -> torch.Tensor:
    """Pad maps (N, C, H, W) as TensorFlow does for "same", which need not be symmetric."""
    pads: list[int] = []
    for axis in (1, 0):
        pads += _same_padding(maps.shape[2 + axis], kernel[axis], stride[axis], dilation[axis])
    return functional.pad(maps, pads, value=value) if any(pads) else maps


@fx.wrap
def average_same(maps: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> torch.Tensor:
    """Return the mean of each window; padded pixels do not count."""
    counted = pad_same(torch.ones_like(maps[:1, :1]), kernel, stride, (1, 1), 0.0)
    mean = functional.avg_pool2d(pad_same(maps, kernel, stride, (1, 1), 0.0), kernel, stride)
    return mean / functional.avg_pool2d(counted, kernel, stride)


class SamePad2d(nn.Module):
    """Padding before a convolution or a pooling, as TensorFlow pads."""

    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
        value: float = 0.0,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation, self.value = kernel, stride, dilation, value

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the padded maps."""
        return pad_same(maps, self.kernel, self.stride, self.dilation, self.value)


class SameAvgPool2d(nn.Module):
    """The mean over windows, padded as TensorFlow pads."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the maps."""
        return average_same(maps, self.kernel, self.stride)


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
    """Several tensors to one: "add", "subtract", "multiply", "average", "maximum" or "minimum"."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the merged tensor."""
        result = inputs[0]
        for other in inputs[1:]:
            if self.how == "subtract":
                result = result - other
            elif self.how == "multiply":
                result = result * other
            elif self.how == "maximum":
                result = torch.maximum(result, other)
            elif self.how == "minimum":
                result = torch.minimum(result, other)
            else:
                result = result + other
        return result / len(inputs) if self.how == "average" else result


class Concatenate(nn.Module):
    """Several tensors side by side along one axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the joined tensor."""
        return torch.cat(inputs, self.axis)


class Rescale(nn.Module):
    """x * scale + offset, each one value or one per channel; `rest` axes follow the channels."""

    def __init__(self, scale: Sequence[float], offset: Sequence[float], rest: int = 2) -> None:
        super().__init__()
        self.scale, self.offset, self.rest = list(scale), list(offset), (1,) * rest

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the rescaled maps."""
        scale, offset = (maps.new_tensor(values).view(-1, *self.rest) for values in (self.scale, self.offset))
        return maps * scale + offset


class Normalise(nn.Module):
    """(x - mean) / deviation with the mean and variance of training images; no training changes them.

    Args:
        sizes: the shape in which the file has them.
        spread: the shape in which they apply to a batch.
        invert: whether to undo it instead.

    """

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, sizes: Sequence[int], spread: Sequence[int], *, invert: bool) -> None:
        super().__init__()
        self.spread, self.invert = tuple(spread), invert
        self.register_buffer("mean", torch.zeros(tuple(sizes)))
        self.register_buffer("variance", torch.ones(tuple(sizes)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the normalised values."""
        mean = self.mean.view(self.spread)
        deviation = self.variance.view(self.spread).sqrt().clamp_min(_LEAST_DEVIATION)
        return values * deviation + mean if self.invert else (values - mean) / deviation


class LastNorm(nn.Module):
    """Layer normalisation over Keras's last axes.

    Args:
        sizes: the sizes of these axes.
        epsilon: added to the variance.
        maps: whether it is fed maps (N, C, H, W), which Keras has as (N, H, W, C).

    """

    def __init__(self, sizes: Sequence[int], epsilon: float, *, maps: bool) -> None:
        super().__init__()
        self.sizes, self.epsilon, self.maps = tuple(sizes), epsilon, maps
        self.weight = nn.Parameter(torch.ones(self.sizes))
        self.bias = nn.Parameter(torch.zeros(self.sizes))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the normalised values."""
        last = values.permute(0, 2, 3, 1) if self.maps else values
        normed = functional.layer_norm(last, self.sizes, self.weight, self.bias, self.epsilon)
        return normed.permute(0, 3, 1, 2) if self.maps else normed


class UnitNorm(nn.Module):
    """Vectors of length 1 along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the scaled values."""
        return functional.normalize(values, dim=self.axis, eps=1e-6)


class LayerScale(nn.Module):
    """ConvNeXt's factor for each channel; `rest` axes follow the channels."""

    def __init__(self, channels: int, rest: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.rest = (1,) * rest

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the scaled values."""
        return values * self.weight.view(-1, *self.rest)


class DropPath(nn.Module):
    """Stochastic depth: while training, all values of an image at once are kept or dropped."""

    def __init__(self, rate: float, rank: int) -> None:
        super().__init__()
        self.rate, self.rest = rate, (1,) * (rank - 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values; unchanged when the network is judged."""
        if not self.training or self.rate == 0:
            return values
        return values * functional.dropout(values.new_ones(len(values), *self.rest), self.rate)


class Reorder(nn.Module):
    """The axes in another order."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values with their axes in the new order."""
        return values.permute(self.order)


class ReshapeChannelsLast(nn.Module):
    """Reshape in Keras's order.

    Args:
        shape: Keras's shape without the batch, e.g. (H, W, C); one size may be -1.
        maps: whether it is fed maps (N, C, H, W).

    """

    def __init__(self, shape: Sequence[int], *, maps: bool) -> None:
        super().__init__()
        self.shape, self.maps = tuple(shape), maps

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values; maps are (N, C, H, W)."""
        last = values.permute(0, 2, 3, 1) if self.maps else values
        reshaped = last.reshape(values.shape[0], *self.shape)
        return reshaped.permute(0, 3, 1, 2) if len(self.shape) == 3 else reshaped


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


class OldHardSigmoid(nn.Module):
    """The hard sigmoid of Keras 1 and 2: 0.2 x + 0.5, cut at 0 and 1."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the activations."""
        return (values * 0.2 + 0.5).clamp(0, 1)


@fx.wrap
def resize(
    maps: torch.Tensor, size: tuple[int, int], mode: str, *, antialias: bool, keep_aspect: bool
) -> torch.Tensor:
    """Resize maps (N, C, H, W); `keep_aspect` first cuts the largest window of the target's proportions."""
    height, width = maps.shape[2:]
    if keep_aspect:
        tall = max(min(height, int(width * size[0] / size[1])), 1)
        broad = max(min(width, int(height * size[1] / size[0])), 1)
        top, left = int((height - tall) / 2), int((width - broad) / 2)
        maps = maps[:, :, top : top + tall, left : left + broad]
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    if mode == "nearest-exact":
        return functional.interpolate(maps, size, mode=mode)
    return functional.interpolate(maps, size, mode=mode, antialias=antialias, align_corners=False)


class Resize(nn.Module):
    """Maps of another size."""

    def __init__(
        self,
        size: tuple[int, int],
        mode: str = "bilinear",
        *,
        antialias: bool = False,
        keep_aspect: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.mode, self.antialias, self.keep_aspect = size, mode, antialias, keep_aspect

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the resized maps."""
        return resize(maps, self.size, self.mode, antialias=self.antialias, keep_aspect=self.keep_aspect)


class Crop2d(nn.Module):
    """Maps without so many pixels on each side: top, bottom, left, right."""

    def __init__(self, top: int, bottom: int, left: int, right: int) -> None:
        super().__init__()
        self.rows, self.columns = slice(top, -bottom or None), slice(left, -right or None)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the inner part."""
        return maps[:, :, self.rows, self.columns]
