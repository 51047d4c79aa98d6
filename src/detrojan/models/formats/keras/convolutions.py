"""Keras's layers with kernels, and those that pool, pad and crop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.activations import activation
from detrojan.models.formats.keras.modules import Crop2d, GlobalPool2d, SameAvgPool2d, SamePad2d
from detrojan.models.formats.keras.parts import (
    LARGEST,
    OTHER_WAY,
    Config,
    Part,
    Shapes,
    maps_of,
    margins,
    pair,
)
from detrojan.models.formats.keras.slots import Turn


def _is_same(config: Config) -> bool:
    """Return whether the padding is "same"; Keras 1 calls the setting `border_mode`."""
    padding = config.get("padding", config.get("border_mode", "valid"))
    if padding not in {"same", "valid"}:
        raise ModelError(f"expected the padding same or valid, got {padding!r}")
    return bool(padding == "same")


def _units(config: Config, key: str) -> int:
    value = config[key]
    if not isinstance(value, int) or not 0 < value <= 1 << 20:
        raise ModelError(f"expected {key} from 1 to {1 << 20}, got {value!r}")
    return value


def _convolution(
    config: Config, before: int, after: int, groups: int, *, bias: bool
) -> tuple[nn.Conv2d, list[Part]]:
    """Return a convolution, and the padding before it where it does not pad itself."""
    kernel, stride = pair(config, "kernel_size"), pair(config, "strides", 1)
    dilation = pair(config, "dilation_rate", 1)
    total = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    more: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups, "bias": bias}
    if not _is_same(config):
        return nn.Conv2d(before, after, kernel, **more), []
    if stride == (1, 1) and all(size % 2 == 0 for size in total):
        return nn.Conv2d(before, after, kernel, padding=(total[0] // 2, total[1] // 2), **more), []
    return nn.Conv2d(before, after, kernel, **more), [Part(SamePad2d(kernel, stride, dilation), "_pad")]


def _weights(turn: Turn, *, bias: bool) -> tuple[tuple[str, Turn], ...]:
    return (("weight", turn), ("bias", "same")) if bias else (("weight", turn),)


def conv(config: Config, shapes: Shapes) -> list[Part]:
    """Convert Conv2D."""
    channels, _, _ = maps_of(shapes)
    bias = bool(config.get("use_bias", True))
    made, pads = _convolution(config, channels, _units(config, "filters"), config.get("groups", 1), bias=bias)
    return [*pads, Part(made, weights=_weights("conv", bias=bias)), *activation(config, 4)]


def depthwise(config: Config, shapes: Shapes) -> list[Part]:
    """Convert DepthwiseConv2D."""
    channels, _, _ = maps_of(shapes)
    bias = bool(config.get("use_bias", True))
    made, pads = _convolution(
        config, channels, channels * config.get("depth_multiplier", 1), channels, bias=bias
    )
    return [*pads, Part(made, weights=_weights("depthwise", bias=bias)), *activation(config, 4)]


def separable(config: Config, shapes: Shapes) -> list[Part]:
    """Convert SeparableConv2D."""
    channels, _, _ = maps_of(shapes)
    bias = bool(config.get("use_bias", True))
    between = channels * config.get("depth_multiplier", 1)
    deep, pads = _convolution(config, channels, between, channels, bias=False)
    point = nn.Conv2d(between, _units(config, "filters"), 1, bias=bias)
    return [
        *pads,
        Part(deep, "_depthwise", (("weight", "depthwise"),)),
        Part(point, "_pointwise", _weights("conv", bias=bias)),
        *activation(config, 4),
    ]


def dense(config: Config, shapes: Shapes) -> list[Part]:
    """Convert Dense; fed with maps it is a convolution of single pixels."""
    if len(shapes) != 1 or len(shapes[0]) not in {2, 3, 4}:
        raise ModelError(f"expected one input of 2 to 4 axes, got {shapes}; {OTHER_WAY}")
    bias, rank, units = bool(config.get("use_bias", True)), len(shapes[0]), _units(config, "units")
    if rank == 4:
        made: nn.Module = nn.Conv2d(shapes[0][1], units, 1, bias=bias)
    else:
        made = nn.Linear(shapes[0][-1], units, bias=bias)
    turn: Turn = "pointwise" if rank == 4 else "dense"
    return [Part(made, weights=_weights(turn, bias=bias)), *activation(config, rank)]


def pool(*, average: bool) -> Callable[[Config, Shapes], list[Part]]:
    """Return what converts AveragePooling2D or MaxPooling2D."""

    def convert(config: Config, shapes: Shapes) -> list[Part]:
        maps_of(shapes)
        kernel = pair(config, "pool_size", 2)
        stride = pair(config, "strides", kernel)
        if not _is_same(config):
            return [Part(nn.AvgPool2d(kernel, stride) if average else nn.MaxPool2d(kernel, stride))]
        if average:
            return [Part(SameAvgPool2d(kernel, stride))]
        return [
            Part(SamePad2d(kernel, stride, value=-math.inf), "_pad"),
            Part(nn.MaxPool2d(kernel, stride)),
        ]

    return convert


def global_pool(*, average: bool) -> Callable[[Config, Shapes], list[Part]]:
    """Return what converts GlobalAveragePooling2D or GlobalMaxPooling2D."""

    def convert(config: Config, shapes: Shapes) -> list[Part]:
        maps_of(shapes)
        return [Part(GlobalPool2d(average=average, keep=bool(config.get("keepdims", False))))]

    return convert


def zero_padding(config: Config, shapes: Shapes) -> list[Part]:
    """Convert ZeroPadding2D."""
    maps_of(shapes)
    top, bottom, left, right = margins(config, "padding")
    return [Part(nn.ZeroPad2d((left, right, top, bottom)))]


def cropping(config: Config, shapes: Shapes) -> list[Part]:
    """Convert Cropping2D."""
    _, height, width = maps_of(shapes)
    top, bottom, left, right = margins(config, "cropping")
    if top + bottom >= height or left + right >= width:
        raise ModelError(f"expected a cropping that leaves pixels of maps {height} x {width}")
    return [Part(Crop2d(top, bottom, left, right))]


def center_crop(config: Config, shapes: Shapes) -> list[Part]:
    """Convert CenterCrop of maps that are large enough."""
    _, height, width = maps_of(shapes)
    tall, broad = config["height"], config["width"]
    if not (isinstance(tall, int) and isinstance(broad, int) and 0 < tall <= height and 0 < broad <= width):
        raise ModelError(
            f"expected maps of {tall} x {broad} or more, at most {LARGEST}, got {height} x {width}"
        )
    top, left = (height - tall) // 2, (width - broad) // 2
    return [Part(Crop2d(top, height - tall - top, left, width - broad - left))]
