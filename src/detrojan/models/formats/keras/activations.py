"""Keras's activations, by name and as layers."""

# ruff: noqa: ARG001 - all converters have one signature

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.modules import BoundedReLU, Exponential, OldHardSigmoid
from detrojan.models.formats.keras.parts import OTHER_WAY, Config, Part, Shapes, axes_of, number

#: the hard sigmoid of files that Keras 1 or 2 wrote
OLD_HARD_SIGMOID = "hard_sigmoid of Keras 2"
#: Keras's activation functions by name
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "hard_tanh": nn.Hardtanh,
    "tanh_shrink": nn.Tanhshrink,
    "sigmoid": nn.Sigmoid,
    "log_sigmoid": nn.LogSigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    OLD_HARD_SIGMOID: OldHardSigmoid,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "hard_silu": nn.Hardswish,
    "hard_swish": nn.Hardswish,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "soft_shrink": nn.Softshrink,
    "hard_shrink": nn.Hardshrink,
    "exponential": Exponential,
}
#: these take all channels together, which Keras has last
_OVER_CHANNELS: dict[str, Callable[[int], nn.Module]] = {
    "softmax": nn.Softmax,
    "log_softmax": nn.LogSoftmax,
}


def over_channels(config: Config) -> bool:
    """Tell whether a layer's activation takes all channels together."""
    return config.get("activation") in tuple(_OVER_CHANNELS)


def activation(config: Config, rank: int) -> list[Part]:
    """Return the activation that a layer ends in.

    Args:
        config: the layer's.
        rank: how many axes its output has.

    Raises:
        ModelError: none that Keras knows by its name.

    """
    name = config.get("activation", "linear")
    if isinstance(name, dict):
        name = _named(name)
        if isinstance(name, list):
            return name
    if name in {None, "linear"}:
        return []
    if name in _OVER_CHANNELS:
        return [Part(_OVER_CHANNELS[name](1 if rank == 4 else rank - 1), "_activation")]
    if name not in ACTIVATIONS:
        known = ", ".join([*ACTIVATIONS, *_OVER_CHANNELS])
        raise ModelError(f"expected an activation out of {known}, got {name!r}; {OTHER_WAY}")
    return [Part(ACTIVATIONS[name](), "_activation")]


def _named(stated: dict[str, Any]) -> str | list[Part]:
    """Return the function's name, or what an activation that is stated as a layer becomes."""
    kind, config = stated.get("class_name"), stated.get("config")
    if kind in _AS_LAYERS and isinstance(config, dict):
        return [replace(part, suffix="_activation") for part in _AS_LAYERS[kind](config, [])]
    if kind == "function" and isinstance(config, str):
        return config
    raise ModelError(f"expected an activation by its name, got the object {kind!r}; {OTHER_WAY}")


def activation_layer(config: Config, shapes: Shapes) -> list[Part]:
    """Convert Activation."""
    return [Part(part.module) for part in activation(config, len(shapes[0]))] or [Part(nn.Identity())]


def relu(config: Config, shapes: Shapes) -> list[Part]:
    """Convert ReLU."""
    ceiling, threshold = config.get("max_value"), number(config.get("threshold"), 0.0)
    slope = number(config.get("negative_slope"), 0.0)
    if slope == 0 and threshold == 0 and (ceiling is None or number(ceiling, 0.0) > 0):
        return [Part(nn.ReLU() if ceiling is None else nn.Hardtanh(0.0, number(ceiling, 0.0)))]
    if ceiling is None and threshold == 0:
        return [Part(nn.LeakyReLU(slope))]
    return [Part(BoundedReLU(None if ceiling is None else number(ceiling, 0.0), slope, threshold))]


def leaky(config: Config, shapes: Shapes) -> list[Part]:
    """Convert LeakyReLU."""
    return [Part(nn.LeakyReLU(number(config.get("negative_slope", config.get("alpha")), 0.3)))]


def elu(config: Config, shapes: Shapes) -> list[Part]:
    """Convert ELU."""
    return [Part(nn.ELU(number(config.get("alpha"), 1.0)))]


def softmax(config: Config, shapes: Shapes) -> list[Part]:
    """Convert Softmax; in maps a last axis has been brought to the channels' place."""
    rank = len(shapes[0])
    (axis,) = axes_of(config.get("axis", -1), rank)
    return [Part(nn.Softmax(1 if rank == 4 and axis == 3 else axis))]


_AS_LAYERS = {"ReLU": relu, "LeakyReLU": leaky, "ELU": elu}
