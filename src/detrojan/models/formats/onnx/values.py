"""The values of an ONNX graph while a network is built out of it: known numbers, or what images become.

Every value is worked out for two numbers of images at once. What is the same for both is a constant; what
grows with the number of images differs from it, whatever the graph computes with its shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from detrojan.errors import ModelError

#: the two numbers of images that all shapes are worked out for
COUNTS = (2, 3)

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Source:
    """Where a tensor comes from: an initializer or constant of the file, and how it was turned since.

    Attributes:
        name: the initializer's name.
        turns: what was done to it, in order: ("permute", order) or ("reshape", the shape before).

    """

    name: str
    turns: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def permuted(self, order: tuple[int, ...]) -> Source:
        """Return the source of the same tensor with its axes in another order."""
        return Source(self.name, (*self.turns, ("permute", order)))

    def reshaped(self, before: tuple[int, ...]) -> Source:
        """Return the source of the same tensor in another shape; `before` is the one it had."""
        return Source(self.name, (*self.turns, ("reshape", before)))

    def to_file(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor as the file lays it out."""
        for kind, numbers in reversed(self.turns):
            if kind == "permute":
                order = sorted(range(len(numbers)), key=lambda axis: numbers[axis])
                tensor = tensor.permute(order)
            else:
                tensor = tensor.reshape(numbers)
        return tensor.contiguous()


@dataclass(frozen=True)
class Known:
    """Numbers that do not depend on the images, though perhaps on how many there are.

    Attributes:
        sides: the numbers for either number of images.
        source: the initializer that they are, if they are one.

    """

    sides: Pair
    source: Source | None = None

    @property
    def constant(self) -> torch.Tensor | None:
        """The numbers, where they are the same however many images there are."""
        first, second = self.sides
        same = first is second or (first.shape == second.shape and torch.equal(first, second))
        return first if same else None

    @property
    def trainable(self) -> bool:
        """Whether they may be weights: several real numbers that stand in the file."""
        first = self.sides[0]
        return self.source is not None and first.is_floating_point() and first.numel() > 1


@dataclass(frozen=True)
class Data:
    """What images become at a place of the graph.

    Attributes:
        key: the number of the value; or the name of a tensor of the network.
        likes: stand-ins of its shape and type for either number of images, without numbers in them.
        raw: whether no layer with weights has seen it yet.

    """

    key: int | str
    likes: Pair
    raw: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape for the first number of images."""
        return tuple(self.likes[0].shape)


Value = Known | Data


def known(tensor: torch.Tensor, source: Source | None = None) -> Known:
    """Return numbers that are the same however many images there are."""
    return Known((tensor, tensor), source)


@dataclass(frozen=True)
class PerImage:
    """A size that grows with the number of images: so many for each."""

    times: int


#: a length of a shape: a number, or so many for each image
Size = int | PerImage


def sizes(value: Known, what: str) -> tuple[Size, ...]:
    """Return the whole numbers in a known value, those that grow with the number of images as such.

    Raises:
        ModelError: they change with the number of images in another way.

    """
    first, second = (side.reshape(-1).tolist() for side in value.sides)
    if len(first) != len(second):
        raise ModelError(f"expected {what} of one length, got one that changes with the number of images")
    found: list[Size] = []
    for one, other in zip(first, second, strict=True):
        if one == other:
            found.append(int(one))
        elif one * COUNTS[1] == other * COUNTS[0] and one % COUNTS[0] == 0:
            found.append(PerImage(int(one) // COUNTS[0]))
        else:
            raise ModelError(f"expected {what} in proportion to the number of images, got {one} and {other}")
    return tuple(found)


def plain(found: Any, what: str) -> tuple[int, ...]:
    """Return sizes as whole numbers.

    Raises:
        ModelError: one of them grows with the number of images.

    """
    if any(isinstance(one, PerImage) for one in found):
        raise ModelError(f"expected {what} that does not depend on the number of images")
    return tuple(int(one) for one in found)
