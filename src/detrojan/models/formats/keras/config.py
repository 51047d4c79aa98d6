"""Reads the description of a model that Keras 2 and Keras 3 write: plain JSON, nothing is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.models.formats.keras.activations import OLD_HARD_SIGMOID
from detrojan.models.formats.keras.parts import OTHER_WAY, Config

#: layers that are models themselves
MODELS = ("Sequential", "Functional", "Model")
_LAMBDAS = ("Lambda", "__lambda__")
#: layers that bring images to a size of their own
_FRAMING = ("Resizing", "CenterCrop", "RandomCrop")


def refuse_code(config: Any, where: str) -> None:
    """Refuse a description that holds Python code.

    Raises:
        UnsafeFileError: a Lambda layer or a lambda anywhere in it.

    """
    pending = [config]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if item.get("class_name") in _LAMBDAS:
                inner = item.get("config")
                name = inner.get("name", "") if isinstance(inner, dict) else ""
                raise UnsafeFileError(
                    f"{where}: expected layers of Keras alone, got the Lambda {name!r}: it is Python code in "
                    f"the file and would run code; nothing was run and no flag allows it: {OTHER_WAY}"
                )
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def layer_configs(config: Config) -> list[Config]:
    """Return the descriptions of a model's layers."""
    inner = config["config"]
    found = inner if isinstance(inner, list) else inner["layers"]
    return [layer for layer in found if isinstance(layer, dict)]


def _layers_within(config: Config) -> Iterator[Config]:
    """Yield the layers of a model and of the models in it, in their order."""
    for layer in layer_configs(config):
        if layer["class_name"] in MODELS:
            yield from _layers_within(layer)
        else:
            yield layer


def _stated_shapes(config: Config) -> Iterator[list[Any]]:
    """Yield the input shapes that a model states, most specific first."""
    for layer in layer_configs(config)[:1] if config["class_name"] == "Sequential" else layer_configs(config):
        inner = layer["config"]
        if layer["class_name"] in MODELS:
            yield from _stated_shapes(layer)
        for key in ("batch_shape", "batch_input_shape"):
            if isinstance(inner, dict) and inner.get(key):
                yield inner[key]
    if isinstance(config["config"], dict) and config["config"].get("build_input_shape"):
        yield config["config"]["build_input_shape"]


def _channels_first(config: Config, sides: list[Any]) -> bool:
    """Return whether images are (C, H, W): the first layer that states an order says so."""
    orders = (layer["config"].get("data_format") for layer in _layers_within(config))
    stated = next((order for order in orders if order in {"channels_first", "channels_last"}), None)
    few = {1, 3, 4}
    return stated == "channels_first" and not (len(sides) == 3 and sides[2] in few and sides[0] not in few)


def _resized_to(config: Config) -> list[Any] | None:
    """Return the (H, W) that a model brings its images to at once."""
    first = [layer for layer in _layers_within(config) if layer["class_name"] != "InputLayer"][:4]
    return next(
        ([one["config"]["height"], one["config"]["width"]] for one in first if one["class_name"] in _FRAMING),
        None,
    )


@dataclass(frozen=True)
class Images:
    """The images that a model takes.

    Attributes:
        shape: (C, H, W).
        first: whether Keras has their channels first.
        flat: whether Keras has them as (H, W), without channels.

    """

    shape: tuple[int, int, int]
    first: bool = False
    flat: bool = False


def stated_images(config: Config, given: tuple[int, int, int] | None, where: str) -> Images:
    """Return which images a model takes.

    Args:
        config: the model.
        given: (C, H, W) as the caller says, for models that leave it open.
        where: the file, for error texts.

    Raises:
        ModelError: not images, open, or another shape than the caller says.

    """
    stated = next(_stated_shapes(config), None)
    sides: list[Any] = list(stated[1:]) if stated else [None, None, None]
    first, flat = _channels_first(config, sides), len(sides) == 2
    if flat:
        sides.append(1)
    if first:
        sides = [*sides[1:], sides[0]]
    if given is not None:
        wanted = [given[1], given[2], given[0]]
        if len(sides) != 3 or any(s not in {None, w} for s, w in zip(sides, wanted, strict=True)):
            raise ModelError(f"{where}: expected input (H, W, C) {sides} as the file says, got {wanted}")
        sides = [*wanted]
    elif len(sides) == 3 and sides[:2] == [None, None]:
        sides = [*(_resized_to(config) or sides[:2]), sides[2]]
    if len(sides) != 3 or not all(isinstance(n, int) and 0 < n <= 4096 for n in sides):
        raise ModelError(
            f"{where}: expected image input (H, W, C), got {sides if stated else 'none'} in the file; "
            f"state it with --input-shape if the file leaves it open"
        )
    return Images((sides[2], sides[0], sides[1]), first, flat)


def snake_case(name: str) -> str:
    """Return the name under which Keras 3 files a layer of this class, e.g. "batch_normalization"."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name)
    return split.lower()


def as_written_by(version: str, config: Config) -> Config:
    """Return a description in which what Keras 1 and 2 computed otherwise has a name of its own.

    Args:
        version: of Keras, or empty.
        config: the model.

    """
    return _renamed(config) if version[:2] in {"1.", "2."} else config


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: OLD_HARD_SIGMOID if key == "activation" and part == "hard_sigmoid" else _renamed(part)
            for key, part in value.items()
        }
    return [_renamed(part) for part in value] if isinstance(value, list) else value
