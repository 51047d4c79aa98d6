"""What an ONNX file describes: nodes, tensors, input and outputs, out of the plain tree of its parser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detrojan.errors import ModelError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One call of an operator.

    Attributes:
        op: the operator, e.g. "Conv".
        name: the node's name, or that of its first output.
        inputs: names of values; empty for those left out.
        outputs: the same.
        attributes: numbers, texts, lists and arrays by name.

    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Description:
    """A graph.

    Attributes:
        opset: the version of the standard operators.
        nodes: in an order in which each finds its inputs made.
        tensors: initializers and constants by name.
        halves: names of those that the file keeps in a shorter type than float32.
        input: the name of the images.
        input_shape: as the file states it: numbers, or None where it is open; None where all of it is.
        whole_numbers: whether the images are stated as whole numbers (0 to 255).
        outputs: names.
        metadata: what else the file says, as text.

    """

    opset: int
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Array]
    halves: frozenset[str] = frozenset()
    input: str
    input_shape: tuple[int | None, ...] | None
    whole_numbers: bool = False
    outputs: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def batch(self) -> int | None:
        """The number of images that the graph states, if it does."""
        return self.input_shape[0] if self.input_shape else None


def describe(tree: Mapping[str, Any], where: str) -> Description:
    """Return the graph that a parser's tree describes.

    Args:
        tree: what `parse_onnx` gives back.
        where: the file, for error texts.

    Raises:
        ModelError: more than one input, none, or an input that is no tensor of numbers.

    """
    tensors = dict(tree["tensors"])
    nodes = []
    for one in tree["nodes"]:
        if one["op"] == "Constant":
            tensors[one["outputs"][0]] = _constant(one["attributes"], f"{where}: node {one['name']!r}")
            continue
        nodes.append(
            Node(
                op=one["op"],
                name=one["name"] or next(iter(one["outputs"]), ""),
                inputs=tuple(one["inputs"]),
                outputs=tuple(one["outputs"]),
                attributes=one["attributes"],
            )
        )
    given = [one for one in tree["inputs"] if one["name"] not in tensors]
    if len(given) != 1:
        names = ", ".join(repr(one["name"]) for one in given) or "none"
        raise ModelError(f"{where}: expected a graph with one input, the images, got {names}")
    return Description(
        opset=tree["opset"],
        nodes=_needed(nodes, tree["outputs"]),
        tensors=tensors,
        halves=frozenset(tree["halves"]),
        input=given[0]["name"],
        input_shape=None if given[0]["shape"] is None else tuple(given[0]["shape"]),
        whole_numbers=given[0]["whole_numbers"],
        outputs=tuple(tree["outputs"]),
        metadata=tree["metadata"],
    )


def _constant(attributes: Mapping[str, Any], where: str) -> Array:
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    for name, value in attributes.items():
        if name == "value" and isinstance(value, np.ndarray):
            return value
        if name in kinds:
            return np.asarray(value, dtype=kinds[name])
    raise ModelError(f"{where}: expected a constant of numbers, got {', '.join(attributes) or 'nothing'}")


def _needed(nodes: list[Node], outputs: list[str]) -> tuple[Node, ...]:
    """Return the nodes that the outputs need, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(kept[::-1])
