"""Turns one Keras layer's configuration into PyTorch modules that compute the same.

A converter receives the layer's configuration and the shapes (N, C, H, W) or (N, F) of its inputs and
answers the modules to apply one after the other. Maps are channels first inside, and whatever Keras
does channels last (flattening, reshaping) is done in its order.
"""

# ruff: noqa: ARG001 - all converters have one signature

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras import activations, convolutions, norms
from detrojan.models.formats.keras.modules import (
    Concatenate,
    DropPath,
    Merge,
    Reorder,
    ReshapeChannelsLast,
    Resize,
)
from detrojan.models.formats.keras.parts import (
    LARGEST,
    OTHER_WAY,
    Config,
    Part,
    Shapes,
    axes_of,
    maps_of,
    number,
)
from detrojan.models.nets import FlattenChannelsLast

#: how Keras resizes, and how PyTorch calls the same; its other ways differ from PyTorch's
_RESIZING = {"bilinear": "bilinear", "nearest": "nearest-exact"}


def _merge(how: str) -> Callable[[Config, Shapes], list[Part]]:
    return lambda _config, _shapes: [Part(Merge(how))]


def _concatenate(config: Config, shapes: Shapes) -> list[Part]:
    rank = len(shapes[0])
    (axis,) = axes_of(config.get("axis", -1), rank)
    return [Part(Concatenate(1 if rank == 4 and axis in {1, 3} else axis))]


def _reshape(config: Config, shapes: Shapes) -> list[Part]:
    target = [int(size) for size in config["target_shape"]]
    if len(target) not in {1, 2, 3} or not all(size == -1 or 0 < size <= 1 << 28 for size in target):
        raise ModelError(
            f"expected a shape (F), (A, B) or (H, W, C) to reshape to, got {target}; {OTHER_WAY}"
        )
    if len(target) == 1:
        return _flatten(config, shapes)
    return [Part(ReshapeChannelsLast(target, maps=len(shapes[0]) == 4))]


def _flatten(config: Config, shapes: Shapes) -> list[Part]:
    if len(shapes[0]) == 4:
        return [Part(FlattenChannelsLast())]
    return [Part(nn.Identity() if len(shapes[0]) == 2 else nn.Flatten())]


def _permute(config: Config, shapes: Shapes) -> list[Part]:
    order = tuple(int(axis) for axis in config["dims"])
    if sorted(order) != list(range(1, len(shapes[0]))):
        raise ModelError(f"expected an order of the axes 1 to {len(shapes[0]) - 1}, got {order}")
    return [Part(Reorder((0, *order)))]


def _resizing(config: Config, shapes: Shapes) -> list[Part]:
    maps_of(shapes)
    how = str(config.get("interpolation", "bilinear")).lower()
    if how not in _RESIZING or config.get("pad_to_aspect_ratio"):
        raise ModelError(
            f"expected {' or '.join(_RESIZING)} resizing without padding, got {how!r}; {OTHER_WAY}"
        )
    return [Part(Resize(_size(config), _RESIZING[how], **_ways(config)))]


def _ways(config: Config) -> dict[str, bool]:
    keep = bool(config.get("crop_to_aspect_ratio", False))
    return {"antialias": bool(config.get("antialias", False)), "keep_aspect": keep}


def _size(config: Config) -> tuple[int, int]:
    height, width = config["height"], config["width"]
    if not all(isinstance(n, int) and 0 < n <= LARGEST for n in (height, width)):
        raise ModelError(f"expected a height and a width from 1 to {LARGEST}, got {height!r} and {width!r}")
    return height, width


def _random_crop(config: Config, shapes: Shapes) -> list[Part]:
    """When it is not training, Keras resizes to the crop's size and keeps the proportions."""
    maps_of(shapes)
    return [Part(Resize(_size(config), keep_aspect=True))]


def _center_crop(config: Config, shapes: Shapes) -> list[Part]:
    _, height, width = maps_of(shapes)
    size = _size(config)
    if size[0] > height or size[1] > width:  # Keras resizes maps that are too small
        return [Part(Resize(size, keep_aspect=True))]
    return convolutions.center_crop(config, shapes)


def _dropout(config: Config, shapes: Shapes) -> list[Part]:
    rate, noise = float(config["rate"]), config.get("noise_shape")
    if not 0 <= rate < 1:
        raise ModelError(f"expected a rate from 0 to below 1, got {rate}")
    if isinstance(noise, list | tuple) and len(noise) > 1 and all(size == 1 for size in noise[1:]):
        return [Part(DropPath(rate, len(shapes[0])))]
    return [Part(nn.Dropout(rate))]


def _spatial_dropout(config: Config, shapes: Shapes) -> list[Part]:
    return [Part(nn.Dropout2d(config["rate"]))]


def _drop_path(config: Config, shapes: Shapes) -> list[Part]:
    return [Part(DropPath(number(config.get("drop_path_rate", config.get("rate")), 0.0), len(shapes[0])))]


def _identity(config: Config, shapes: Shapes) -> list[Part]:
    return [Part(nn.Identity())]


#: augmentation and noise: they act while a network is trained, and a network that is judged or mended
#: runs without
AUGMENTATIONS = (
    *("AugMix", "CutMix", "MixUp", "RandAugment", "RandomApply", "RandomChoice", "RandomBrightness"),
    *("RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomElasticTransform"),
    *("RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue"),
    *("RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation"),
    *("RandomSharpness", "RandomShear", "RandomTranslation", "RandomWidth", "RandomZoom"),
    *("GaussianNoise", "GaussianDropout", "AlphaDropout"),
)
#: a converter by the layer's class
CONVERTERS: dict[str, Callable[[Config, Shapes], list[Part]]] = {
    "Conv2D": convolutions.conv,
    "Convolution2D": convolutions.conv,
    "DepthwiseConv2D": convolutions.depthwise,
    "SeparableConv2D": convolutions.separable,
    "SeparableConvolution2D": convolutions.separable,
    "Dense": convolutions.dense,
    "MaxPooling2D": convolutions.pool(average=False),
    "AveragePooling2D": convolutions.pool(average=True),
    "GlobalAveragePooling2D": convolutions.global_pool(average=True),
    "GlobalMaxPooling2D": convolutions.global_pool(average=False),
    "ZeroPadding2D": convolutions.zero_padding,
    "Cropping2D": convolutions.cropping,
    "BatchNormalization": norms.batch_norm,
    "LayerNormalization": norms.layer_norm,
    "GroupNormalization": norms.group_norm,
    "UnitNormalization": norms.unit_norm,
    "Normalization": norms.normalization,
    "Rescaling": norms.rescaling,
    "LayerScale": norms.layer_scale,
    "Activation": activations.activation_layer,
    "ReLU": activations.relu,
    "LeakyReLU": activations.leaky,
    "ELU": activations.elu,
    "Softmax": activations.softmax,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "Add": _merge("add"),
    "Subtract": _merge("subtract"),
    "Multiply": _merge("multiply"),
    "Average": _merge("average"),
    "Maximum": _merge("maximum"),
    "Minimum": _merge("minimum"),
    "Concatenate": _concatenate,
    "Resizing": _resizing,
    "CenterCrop": _center_crop,
    "RandomCrop": _random_crop,
    "Dropout": _dropout,
    "SpatialDropout2D": _spatial_dropout,
    "StochasticDepth": _drop_path,
    "Identity": _identity,
    "ActivityRegularization": _identity,
    **dict.fromkeys(AUGMENTATIONS, _identity),
}
_AXIS_FIRST = ("BatchNormalization", "GroupNormalization", "UnitNormalization", "Normalization", "Softmax")


def wanted_order(kind: str, config: Config) -> bool | None:
    """Return whether a layer's maps have to be channels last in Keras's eyes; None where it does not matter.

    In our network maps are always (N, C, H, W). Where Keras's own order has the channels last, axis 3 of
    Keras is our axis 1; where it has them first, the orders are the same.
    """
    stated = config.get("data_format")
    if stated in {"channels_first", "channels_last"}:
        return bool(stated == "channels_last")
    if kind in {"Dense", "Reshape", "Flatten", "LayerNormalization", "LayerScale", "Rescaling"}:
        return True
    if kind == "Permute":
        return False
    if kind == "Activation":
        return True if activations.over_channels(config) else None
    if kind in {*_AXIS_FIRST, "Concatenate"}:
        return _last_axis(config.get("axis", -1))
    return None


def _last_axis(axis: Any) -> bool:
    axes = axis if isinstance(axis, list | tuple) else [axis]
    return list(axes) in ([-1], [3])
