"""Reads the description of a model that Keras 2 and Keras 3 write: plain JSON, nothing is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.models.formats.keras.layers import OTHER_WAY, Config

#: layers that are models themselves
MODELS = ("Sequential", "Functional", "Model")
_LAMBDAS = ("Lambda", "__lambda__")
#: a tensor of the graph as Keras names it: the layer, which call of it, which output of the call
Ref = tuple[str, int, int]


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


def stated_shape(config: Config, given: tuple[int, int, int] | None, where: str) -> tuple[int, int, int]:
    """Return the (C, H, W) of a model's images.

    Args:
        config: the model.
        given: what the caller says, for models that leave it open.
        where: the file, for error texts.

    Raises:
        ModelError: not images, open, or another shape than the caller says.

    """
    stated = next(_stated_shapes(config), None)
    sides = list(stated[1:]) if stated else list(given or ())[1:] + list(given or ())[:1]
    if len(sides) == 2:  # grey images without a channel axis
        sides.append(1)
    if given is not None:
        wanted = [given[1], given[2], given[0]]
        if len(sides) != 3 or any(s not in {None, w} for s, w in zip(sides, wanted, strict=True)):
            raise ModelError(f"{where}: expected input (H, W, C) {sides} as the file says, got {wanted}")
        sides = wanted
    if len(sides) != 3 or not all(isinstance(n, int) and 0 < n <= 4096 for n in sides):
        raise ModelError(
            f"{where}: expected image input (H, W, C), got {sides or 'none'} in the file; "
            f"state it with --input-shape if the file leaves it open"
        )
    return sides[2], sides[0], sides[1]


def snake_case(name: str) -> str:
    """Return the name under which Keras 3 files a layer of this class, e.g. "batch_normalization"."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name)
    return split.lower()


def read_refs(value: Any) -> list[Ref]:
    """Read one or several [layer, call, output]."""
    if value and isinstance(value[0], str):
        value = [value]
    return [(str(ref[0]), int(ref[1]), int(ref[2])) for ref in value]


def read_node_refs(node: Any) -> list[Ref]:
    """Read the tensors that one call of a layer takes, as Keras 2 or as Keras 3 writes them."""
    if isinstance(node, list):
        return read_refs(node)
    found: list[Ref] = []
    pending = list(node["args"])
    while pending:
        item = pending.pop(0)
        if isinstance(item, list):
            pending = [*item, *pending]
        elif isinstance(item, dict) and item.get("class_name") == "__keras_tensor__":
            found += read_refs(item["config"]["keras_history"])
        else:
            raise ModelError(f"expected the inputs of a layer to be tensors, got {item!r}")
    for key, value in node.get("kwargs", {}).items():
        if value is not None and key not in {"training", "mask"}:
            raise ModelError(f"expected a layer that takes only tensors, got {key}={value!r}")
    return found
