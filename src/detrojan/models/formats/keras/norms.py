"""Keras's layers that normalise and rescale."""

# ruff: noqa: ARG001 - all converters have one signature

from __future__ import annotations

import math

from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.modules import LastNorm, LayerScale, Normalise, Rescale, UnitNorm
from detrojan.models.formats.keras.parts import OTHER_WAY, Config, Part, Shapes, axes_of, numbers, plain
from detrojan.models.formats.keras.slots import Turn

#: the least that Keras's Normalization divides by
_LEAST_DEVIATION = 1e-7


def _affine(config: Config, module: nn.Module, more: tuple[str, ...] = (), suffix: str = "") -> Part:
    """Return a norm whose scale and shift Keras may have left out."""
    has = {"weight": config.get("scale", True), "bias": config.get("center", True)}
    constant = {"weight": 1.0, "bias": 0.0}
    names = [name for name in ("weight", "bias") if has[name]] + list(more)
    weights: tuple[tuple[str, Turn], ...] = tuple((name, "same") for name in names)
    fixed = tuple((name, constant[name]) for name in constant if not has[name])
    return Part(module, suffix, weights, fixed)


def _check_channels(config: Config, shapes: Shapes) -> None:
    """Refuse a norm over anything but channels; where they are in Keras, the order of axes has settled."""
    rank = len(shapes[0])
    axes = axes_of(config.get("axis", -1), rank)
    if rank not in {2, 4} or axes not in ([1], [rank - 1]):
        raise ModelError(
            f"expected the channels of maps or of flat input, got axes {axes} of {rank}; {OTHER_WAY}"
        )


def batch_norm(config: Config, shapes: Shapes) -> list[Part]:
    """Convert BatchNormalization; its axis has been brought to the channels' place."""
    _check_channels(config, shapes)
    kind = nn.BatchNorm2d if len(shapes[0]) == 4 else nn.BatchNorm1d
    # Keras says how much of the old average stays, PyTorch how much of the new value comes
    norm = kind(shapes[0][1], eps=config.get("epsilon", 1e-3), momentum=1 - config.get("momentum", 0.99))
    return [_affine(config, norm, ("running_mean", "running_var"))]


def layer_norm(config: Config, shapes: Shapes) -> list[Part]:
    """Convert LayerNormalization over Keras's last axes; RMS norms are refused."""
    shape = shapes[0]
    maps = len(shape) == 4
    keras = (shape[0], shape[2], shape[3], shape[1]) if maps else shape
    axes = axes_of(config.get("axis", -1), len(shape))
    if config.get("rms_scaling") or axes != list(range(len(shape) - len(axes), len(shape))) or 0 in axes:
        raise ModelError(f"expected a norm over the last axes, got axes {axes} of {keras}; {OTHER_WAY}")
    sizes = [keras[axis] for axis in axes]
    return [_affine(config, LastNorm(sizes, config.get("epsilon", 1e-3), maps=maps))]


def group_norm(config: Config, shapes: Shapes) -> list[Part]:
    """Convert GroupNormalization; its axis has been brought to the channels' place."""
    _check_channels(config, shapes)
    channels, groups = shapes[0][1], config.get("groups", 32)
    norm = nn.GroupNorm(channels if groups == -1 else groups, channels, config.get("epsilon", 1e-3))
    return [_affine(config, norm)]


def unit_norm(config: Config, shapes: Shapes) -> list[Part]:
    """Convert UnitNormalization over one axis, which has been brought to the channels' place in maps."""
    rank = len(shapes[0])
    axes = axes_of(config.get("axis", -1), rank)
    if len(axes) != 1 or axes == [0]:
        raise ModelError(f"expected one axis, got {axes}; {OTHER_WAY}")
    return [Part(UnitNorm(1 if rank == 4 and axes == [3] else axes[0]))]


def layer_scale(config: Config, shapes: Shapes) -> list[Part]:
    """Convert ConvNeXt's LayerScale."""
    rank = len(shapes[0])
    channels = shapes[0][1] if rank == 4 else shapes[0][-1]
    return [Part(LayerScale(channels, rest=2 if rank == 4 else 0), weights=(("weight", "same"),))]


def rescaling(config: Config, shapes: Shapes) -> list[Part]:
    """Convert Rescaling."""
    rest = 2 if len(shapes[0]) == 4 else 0
    return [Part(Rescale(numbers(config.get("scale", 1.0)), numbers(config.get("offset", 0.0)), rest))]


def normalization(config: Config, shapes: Shapes) -> list[Part]:
    """Convert Normalization, whose mean and variance are weights or are stated.

    Maps are fed with the channels first if these are its axis, else in Keras's own order.
    """
    shape, rank = shapes[0], len(shapes[0])
    axes = [] if config.get("axis", -1) is None else axes_of(config.get("axis", -1), rank)
    if rank == 4 and axes == [3]:
        axes = [1]
    invert = bool(config.get("invert", False))
    if plain(config.get("mean")) is None:
        sizes = [shape[axis] for axis in axes]
        spread = [shape[axis] if axis in axes else 1 for axis in range(rank)]
        module = Normalise(sizes, spread, invert=invert)
        return [Part(module, weights=(("mean", "same"), ("variance", "same"), ("", "same")))]
    mean, variance = numbers(config["mean"]), numbers(config.get("variance"))
    single = len(mean) == 1
    if len(mean) != len(variance) or not (single or axes in ([1], [rank - 1])):
        raise ModelError(f"expected a mean and a variance per channel, got {len(mean)} and {len(variance)}")
    deviation = [max(math.sqrt(value), _LEAST_DEVIATION) for value in variance]
    rest = 0 if single else rank - 1 - axes[0]
    if invert:
        return [Part(Rescale(deviation, mean, rest))]
    scale = [1 / value for value in deviation]
    offset = [-m / d for m, d in zip(mean, deviation, strict=True)]
    return [Part(Rescale(scale, offset, rest))]
