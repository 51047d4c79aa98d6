"""What a handler of an operator is given: the node with its inputs, and ways to add to the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.description import Description, Node
from detrojan.models.formats.onnx.network import OnnxGraph
from detrojan.models.formats.onnx.values import Data, Known, Size, Value, plain, sizes


class Maker(Protocol):
    """What makes the network out of what handlers add: see `build.Builder`."""

    graph: Description
    network: OnnxGraph
    images: Data
    uses: Counter[str]

    def add(self, node: Node, module: nn.Module, values: Sequence[Value], outputs: int) -> list[Value]:
        """Add a module."""

    def weigh(
        self, node: Node, module: nn.Module, weights: dict[str, Known], values: Sequence[Value]
    ) -> Data:
        """Add a module with tensors of its own."""

    def fill(self, name: str, module: nn.Module, tensor: str, value: Known) -> None:
        """Give a module one of its tensors."""


class Call:
    """One node while it is added to the network.

    Args:
        builder: of the network.
        node: the node.
        inputs: its values; None for those left out.

    """

    def __init__(self, builder: Maker, node: Node, inputs: list[Value | None]) -> None:
        self.builder, self.node, self.inputs = builder, node, inputs
        self.opset = builder.graph.opset

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or `default` where the node has none of that name."""
        found = self.node.attributes.get(name, default)
        wanted = type(default)
        if default is not None and not isinstance(found, (int, float) if wanted is float else wanted):
            raise ModelError(f"expected {name} as {wanted.__name__}, got {found!r:.40}")
        return float(found) if wanted is float else found

    def given(self, place: int) -> Value | None:
        """Return an input, or None where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def value(self, place: int) -> Value:
        """Return an input.

        Raises:
            ModelError: it is left out.

        """
        found = self.given(place)
        if found is None:
            raise ModelError(f"expected at least {place + 1} inputs, got {len(self.inputs)}")
        return found

    def rank(self, place: int = 0) -> int:
        """Return the number of axes of an input."""
        return len(self.shape(place))

    def shape(self, place: int = 0) -> tuple[int, ...]:
        """Return the shape of an input for the first number of images."""
        found = self.value(place)
        return found.shape if isinstance(found, Data) else tuple(found.sides[0].shape)

    def axis(self, default: int | None = None, place: int = 0) -> int:
        """Return the attribute "axis" as a number of 0 or more.

        Raises:
            ModelError: there is no such axis.

        """
        return self.positive(self.attribute("axis", default), self.rank(place))

    @staticmethod
    def positive(axis: Any, rank: int) -> int:
        """Return an axis as a number of 0 or more.

        Raises:
            ModelError: there is no such axis.

        """
        if not isinstance(axis, int) or not -rank <= axis < max(rank, 1):
            raise ModelError(f"expected an axis of {rank}, got {axis!r}")
        return axis % max(rank, 1)

    def constant(self, place: int, what: str) -> torch.Tensor | None:
        """Return an input that has to be constant; None where it is left out.

        Raises:
            ModelError: it depends on the images, or on their number.

        """
        found = self.given(place)
        if found is None:
            return None
        held = found.constant if isinstance(found, Known) else None
        if held is None:
            raise ModelError(f"expected {what} as a constant, got what depends on the images")
        return held

    def sizes(self, place: int, what: str) -> tuple[Size, ...]:
        """Return an input of whole numbers, of which some may grow with the number of images.

        Raises:
            ModelError: it depends on what is in the images.

        """
        found = self.value(place)
        if not isinstance(found, Known):
            raise ModelError(f"expected {what} that does not depend on what is in the images")
        return sizes(found, what)

    def numbers(self, name: str, place: int) -> tuple[int, ...] | None:
        """Return whole numbers out of an attribute, or of an input where later versions have it.

        Raises:
            ModelError: they depend on the images.

        """
        found = self.node.attributes.get(name)
        if found is None and self.given(place) is not None:
            found = plain(self.sizes(place, name), name)
        return None if found is None else tuple(int(one) for one in found)

    def add(self, module: nn.Module, *values: Value) -> Value:
        """Add a module that takes these values, and return what it gives; what is known is worked out."""
        (found,) = self.builder.add(self.node, module, values, 1)
        return found

    def add_parts(self, module: nn.Module, count: int, *values: Value) -> list[Value]:
        """Add a module that gives `count` values, as `add` does."""
        return self.builder.add(self.node, module, values, count)

    def weigh(self, module: nn.Module, weights: dict[str, Known], *values: Value) -> Data:
        """Add a module whose own tensors are in the file.

        Args:
            module: on the meta device.
            weights: its tensors by their names in it.
            values: what it takes.

        """
        return self.builder.weigh(self.node, module, weights, values)
