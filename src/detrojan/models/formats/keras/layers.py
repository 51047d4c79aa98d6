"""Turns one Keras layer's configuration into PyTorch modules that compute the same.

A converter receives the layer's configuration and the shapes (N, C, H, W) or (N, F) of its inputs and
answers the modules to apply one after the other. Maps are channels first inside, and whatever Keras
does channels last (flattening, reshaping) is done in its order.
"""

# ruff: noqa: ARG001, ARG005 - all converters have one signature

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.modules import (
    BoundedReLU,
    Exponential,
    GlobalPool2d,
    Merge,
    Rescale,
    ReshapeChannelsLast,
    SameConv2d,
    SamePool2d,
)
from detrojan.models.formats.keras.slots import Turn
from detrojan.models.nets import FlattenChannelsLast

Config = dict[str, Any]
Shapes = list[tuple[int, ...]]
#: larger kernels, strides, paddings than this do not occur in image classifiers
_LARGEST = 4096


@dataclass(frozen=True)
class Part:
    """A module out of a Keras layer.

    Attributes:
        module: computes it.
        suffix: what is added to the layer's name, for layers of several modules.
        weights: (the module's tensor, how Keras turns it), in the order of the layer's arrays.
        fixed: the module's tensors that Keras does not have, with their constant value.

    """

    module: nn.Module
    suffix: str = ""
    weights: tuple[tuple[str, Turn], ...] = ()
    fixed: tuple[tuple[str, float], ...] = ()


#: Keras's activation functions by name; softmax is over the channels, which Keras has last
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "exponential": Exponential,
    "softmax": lambda: nn.Softmax(1),
    "log_softmax": lambda: nn.LogSoftmax(1),
}


def _activation(config: Config) -> list[Part]:
    name = config.get("activation", "linear")
    if name in {None, "linear"}:
        return []
    if not isinstance(name, str):
        name = name.get("class_name") if isinstance(name, dict) else name
        raise ModelError(f"expected an activation by its name, got the object {name!r}; {OTHER_WAY}")
    if name not in ACTIVATIONS:
        raise ModelError(f"expected an activation out of {', '.join(ACTIVATIONS)}, got {name!r}; {OTHER_WAY}")
    return [Part(ACTIVATIONS[name](), "_activation")]


#: what people can do about a layer we do not know
OTHER_WAY = "give the architecture with --net or --factory instead"


def _pair(config: Config, key: str, default: Any = None) -> tuple[int, int]:
    value = config.get(key)
    value = default if value is None else value
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int) and 0 < n <= _LARGEST for n in pair):
        raise ModelError(f"expected one or two numbers from 1 to {_LARGEST} as {key}, got {value!r}")
    return pair[0], pair[1]


def _maps(shapes: Shapes) -> tuple[int, int, int]:
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelError(f"expected maps (N, C, H, W), got {shapes}")
    return shapes[0][1], shapes[0][2], shapes[0][3]


def _padding(config: Config) -> bool:
    """Return whether the padding is "same"."""
    padding = config.get("padding", "valid")
    if padding not in {"same", "valid"}:
        raise ModelError(f"expected the padding same or valid, got {padding!r}")
    return bool(padding == "same")


def _make_conv(config: Config, before: int, after: int, groups: int, *, bias: bool) -> nn.Conv2d:
    kernel, stride = _pair(config, "kernel_size"), _pair(config, "strides", 1)
    dilation = _pair(config, "dilation_rate", 1)
    total = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    more: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups, "bias": bias}
    if not _padding(config):
        return nn.Conv2d(before, after, kernel, **more)
    if stride == (1, 1) and all(size % 2 == 0 for size in total):
        return nn.Conv2d(before, after, kernel, padding=(total[0] // 2, total[1] // 2), **more)
    return SameConv2d(before, after, kernel, **more)


def _weights(turn: Turn, *, bias: bool) -> tuple[tuple[str, Turn], ...]:
    return (("weight", turn), ("bias", "same")) if bias else (("weight", turn),)


def _conv(config: Config, shapes: Shapes) -> list[Part]:
    channels, _, _ = _maps(shapes)
    bias = bool(config.get("use_bias", True))
    conv = _make_conv(config, channels, config["filters"], config.get("groups", 1), bias=bias)
    return [Part(conv, weights=_weights("conv", bias=bias)), *_activation(config)]


def _depthwise(config: Config, shapes: Shapes) -> list[Part]:
    channels, _, _ = _maps(shapes)
    bias = bool(config.get("use_bias", True))
    conv = _make_conv(config, channels, channels * config.get("depth_multiplier", 1), channels, bias=bias)
    return [Part(conv, weights=_weights("depthwise", bias=bias)), *_activation(config)]


def _separable(config: Config, shapes: Shapes) -> list[Part]:
    channels, _, _ = _maps(shapes)
    bias = bool(config.get("use_bias", True))
    between = channels * config.get("depth_multiplier", 1)
    deep = _make_conv(config, channels, between, channels, bias=False)
    point = nn.Conv2d(between, config["filters"], 1, bias=bias)
    return [
        Part(deep, "_depthwise", (("weight", "depthwise"),)),
        Part(point, "_pointwise", _weights("conv", bias=bias)),
        *_activation(config),
    ]


def _dense(config: Config, shapes: Shapes) -> list[Part]:
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ModelError(f"expected flat input (N, F), got {shapes}; {OTHER_WAY}")
    bias = bool(config.get("use_bias", True))
    linear = nn.Linear(shapes[0][1], config["units"], bias=bias)
    return [Part(linear, weights=_weights("dense", bias=bias)), *_activation(config)]


def _pool(*, average: bool) -> Callable[[Config, Shapes], list[Part]]:
    def convert(config: Config, shapes: Shapes) -> list[Part]:
        _maps(shapes)
        kernel = _pair(config, "pool_size", 2)
        stride = _pair(config, "strides", kernel)
        if _padding(config):
            return [Part(SamePool2d(kernel, stride, average=average))]
        return [Part(nn.AvgPool2d(kernel, stride) if average else nn.MaxPool2d(kernel, stride))]

    return convert


def _global_pool(*, average: bool) -> Callable[[Config, Shapes], list[Part]]:
    def convert(config: Config, shapes: Shapes) -> list[Part]:
        _maps(shapes)
        return [Part(GlobalPool2d(average=average, keep=bool(config.get("keepdims", False))))]

    return convert


def _channels_axis(axis: Any, shape: tuple[int, ...]) -> None:
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if axis not in {-1, len(shape) - 1}:
        raise ModelError(f"expected the last axis, the channels, got axis {axis!r}; {OTHER_WAY}")


def _norm(config: Config, shapes: Shapes) -> list[Part]:
    _channels_axis(config.get("axis", -1), shapes[0])
    kind = nn.BatchNorm2d if len(shapes[0]) == 4 else nn.BatchNorm1d
    # Keras says how much of the old average stays, PyTorch how much of the new value comes
    norm = kind(shapes[0][1], eps=config.get("epsilon", 1e-3), momentum=1 - config.get("momentum", 0.99))
    has = {"weight": config.get("scale", True), "bias": config.get("center", True)}
    constant = {"weight": 1.0, "bias": 0.0}
    names = [name for name in ("weight", "bias") if has[name]] + ["running_mean", "running_var"]
    weights: tuple[tuple[str, Turn], ...] = tuple((name, "same") for name in names)
    return [Part(norm, weights=weights, fixed=tuple((n, constant[n]) for n in constant if not has[n]))]


def _merge(how: str) -> Callable[[Config, Shapes], list[Part]]:
    def convert(config: Config, shapes: Shapes) -> list[Part]:
        if how == "concatenate":
            _channels_axis(config.get("axis", -1), shapes[0])
        return [Part(Merge(how))]

    return convert


def _zero_padding(config: Config, shapes: Shapes) -> list[Part]:
    _maps(shapes)
    padding = config.get("padding", 1)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    (top, bottom), (left, right) = ((n, n) if isinstance(n, int) else n for n in (rows, columns))
    if not all(isinstance(n, int) and 0 <= n <= _LARGEST for n in (left, right, top, bottom)):
        raise ModelError(f"expected paddings from 0 to {_LARGEST}, got {padding!r}")
    return [Part(nn.ZeroPad2d((left, right, top, bottom)))]


def _number(value: Any, default: float) -> float:
    """Return a number that Keras 2 may have wrapped as a NumPy value."""
    if isinstance(value, dict):
        value = value.get("value", value.get("config", {}).get("value"))
    return default if value is None else float(value)


def _rescaling(config: Config, shapes: Shapes) -> list[Part]:
    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            value = value.get("value", value.get("config", {}).get("value"))
        return [float(one) for one in value] if isinstance(value, list) else [float(value)]

    return [Part(Rescale(numbers(config.get("scale", 1.0)), numbers(config.get("offset", 0.0))))]


def _reshape(config: Config, shapes: Shapes) -> list[Part]:
    target = [int(size) for size in config["target_shape"]]
    if len(target) == 1:
        return [Part(FlattenChannelsLast() if len(shapes[0]) == 4 else nn.Identity())]
    if len(target) != 3:
        raise ModelError(f"expected a shape (F) or (H, W, C) to reshape to, got {target}; {OTHER_WAY}")
    return [Part(ReshapeChannelsLast((target[0], target[1], target[2])))]


def _flatten(config: Config, shapes: Shapes) -> list[Part]:
    return [Part(FlattenChannelsLast() if len(shapes[0]) == 4 else nn.Identity())]


def _relu(config: Config, shapes: Shapes) -> list[Part]:
    ceiling, threshold = config.get("max_value"), _number(config.get("threshold"), 0.0)
    slope = _number(config.get("negative_slope"), 0.0)
    if ceiling is None and slope == 0 and threshold == 0:
        return [Part(nn.ReLU())]
    return [Part(BoundedReLU(None if ceiling is None else _number(ceiling, 0.0), slope, threshold))]


def _leaky(config: Config, shapes: Shapes) -> list[Part]:
    return [Part(nn.LeakyReLU(_number(config.get("negative_slope", config.get("alpha")), 0.3)))]


def _softmax(config: Config, shapes: Shapes) -> list[Part]:
    _channels_axis(config.get("axis", -1), shapes[0])
    return [Part(nn.Softmax(1))]


def _activation_layer(config: Config, shapes: Shapes) -> list[Part]:
    return [Part(part.module) for part in _activation(config)] or [Part(nn.Identity())]


def _identity(config: Config, shapes: Shapes) -> list[Part]:
    return [Part(nn.Identity())]


#: a converter by the layer's class
CONVERTERS: dict[str, Callable[[Config, Shapes], list[Part]]] = {
    "Conv2D": _conv,
    "Convolution2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "MaxPooling2D": _pool(average=False),
    "AveragePooling2D": _pool(average=True),
    "GlobalAveragePooling2D": _global_pool(average=True),
    "GlobalMaxPooling2D": _global_pool(average=False),
    "BatchNormalization": _norm,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Activation": _activation_layer,
    "ReLU": _relu,
    "LeakyReLU": _leaky,
    "ELU": lambda config, shapes: [Part(nn.ELU(_number(config.get("alpha"), 1.0)))],
    "Softmax": _softmax,
    "Add": _merge("add"),
    "Subtract": _merge("subtract"),
    "Multiply": _merge("multiply"),
    "Average": _merge("average"),
    "Maximum": _merge("maximum"),
    "Concatenate": _merge("concatenate"),
    "ZeroPadding2D": _zero_padding,
    "Rescaling": _rescaling,
    "Dropout": lambda config, shapes: [Part(nn.Dropout(config["rate"]))],
    "SpatialDropout2D": lambda config, shapes: [Part(nn.Dropout2d(config["rate"]))],
    # noise is for training from scratch; a network that is judged or mended runs without
    "GaussianNoise": _identity,
    "GaussianDropout": _identity,
    "AlphaDropout": _identity,
    "ActivityRegularization": _identity,
}
