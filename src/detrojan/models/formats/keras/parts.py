"""What a Keras layer becomes: PyTorch modules with the places of their weights; and how settings are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.slots import Turn

Config = dict[str, Any]
#: the shapes of a layer's inputs, (N, C, H, W) for maps, else as Keras has them
Shapes = list[tuple[int, ...]]
#: larger kernels, strides, paddings than this do not occur in image classifiers
LARGEST = 4096
#: what people can do about a layer we do not know
OTHER_WAY = "give the architecture with --net or --factory instead"
#: the same about a layer of a kind that we do not know
EXPORT = (
    "export the network, where Keras loads it: python -m tf2onnx.convert --keras FILE --output model.onnx"
)


@dataclass(frozen=True)
class Part:
    """A module out of a Keras layer.

    Attributes:
        module: computes it.
        suffix: what is added to the layer's name, for layers of several modules.
        weights: (the module's tensor, how Keras turns it), in the order of the layer's arrays. An array
            without a tensor's name is not needed.
        fixed: the module's tensors that Keras does not have, with their constant value.

    """

    module: nn.Module
    suffix: str = ""
    weights: tuple[tuple[str, Turn], ...] = ()
    fixed: tuple[tuple[str, float], ...] = ()


def pair(config: Config, key: str, default: Any = None) -> tuple[int, int]:
    """Return a setting that is one number or two.

    Raises:
        ModelError: anything else, or numbers that no image classifier has.

    """
    value = config.get(key)
    value = default if value is None else value
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or not all(isinstance(n, int) and 0 < n <= LARGEST for n in both):
        raise ModelError(f"expected one or two numbers from 1 to {LARGEST} as {key}, got {value!r}")
    return both[0], both[1]


def margins(config: Config, key: str) -> tuple[int, int, int, int]:
    """Return a setting of pixels on each side: top, bottom, left, right.

    Raises:
        ModelError: negative, or numbers that no image classifier has.

    """
    value = config.get(key, 1)
    rows, columns = (value, value) if isinstance(value, int) else value
    (top, bottom), (left, right) = ((n, n) if isinstance(n, int) else n for n in (rows, columns))
    if not all(isinstance(n, int) and 0 <= n <= LARGEST for n in (left, right, top, bottom)):
        raise ModelError(f"expected a {key} from 0 to {LARGEST}, got {value!r}")
    return top, bottom, left, right


def maps_of(shapes: Shapes) -> tuple[int, int, int]:
    """Return the (C, H, W) of a layer's only input.

    Raises:
        ModelError: not one input, or no maps.

    """
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelError(f"expected maps (N, C, H, W), got {shapes}")
    return shapes[0][1], shapes[0][2], shapes[0][3]


def plain(value: Any) -> Any:
    """Return a number or list that Keras may have wrapped as a NumPy value or a tensor."""
    if isinstance(value, dict):
        inner = value.get("config")
        return value.get("value", inner.get("value") if isinstance(inner, dict) else None)
    return value


def number(value: Any, default: float) -> float:
    """Return a number, or the default where none is stated."""
    value = plain(value)
    return default if value is None else float(value)


def numbers(value: Any) -> list[float]:
    """Return one number or several, however deep their list is nested."""
    value = plain(value)
    if isinstance(value, list):
        return [one for part in value for one in numbers(part)]
    return [float(value)]


def axes_of(value: Any, rank: int) -> list[int]:
    """Return one axis or several, counted from the front.

    Raises:
        ModelError: no such axis.

    """
    value = plain(value)
    found = [int(axis) for axis in (value if isinstance(value, list | tuple) else [value])]
    if not all(-rank <= axis < rank for axis in found):
        raise ModelError(f"expected axes of a tensor of {rank} axes, got {found}")
    return sorted(axis % rank for axis in found)
