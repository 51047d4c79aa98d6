"""Builds a PyTorch network from a Keras model's configuration and weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from detrojan.errors import ModelError
from detrojan.models.formats.keras.builder import Builder, Value
from detrojan.models.formats.keras.calls import Taken
from detrojan.models.formats.keras.config import as_written_by, refuse_code, stated_images
from detrojan.models.formats.keras.fronts import stated_preprocessing
from detrojan.models.formats.keras.network import KerasGraph
from detrojan.models.formats.keras.operations import Operation
from detrojan.models.formats.keras.parts import Config
from detrojan.models.formats.keras.slots import Slot
from detrojan.models.preprocessing import Preprocessing
from detrojan.parsing.keras_file import KerasFile, Node


@dataclass(frozen=True)
class Built:
    """A network out of a Keras file.

    Attributes:
        network: the network with its weights.
        input_shape: (C, H, W).
        slots: where each of its tensors lies in the file.
        fixed: its tensors that the file does not have, with their constant value.
        config: the description, which `bare_graph` takes.
        preprocessing: the range of images that its first layers expect, or None.
        notes: what people have to know of it.

    """

    network: KerasGraph
    input_shape: tuple[int, int, int]
    slots: dict[str, Slot]
    fixed: dict[str, float]
    config: Config
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()


def build_graph(content: KerasFile, input_shape: tuple[int, int, int] | None, where: str) -> Built:
    """Build the network that a file describes.

    Args:
        content: the file.
        input_shape: (C, H, W) for files that leave the size open.
        where: the file, for error texts.

    Raises:
        ModelError: a layer we cannot convert, or a description that contradicts itself.
        UnsafeFileError: a layer that holds code.

    """
    assert content.config is not None
    config = as_written_by(content.version, content.config)
    builder, shape = _lay_out(config, Builder(content, where), input_shape)
    builder.fill()
    notes: tuple[str, ...] = ()
    if builder.silent:
        notes = (f"{where}: layers that act only in training do nothing here: {', '.join(builder.silent)}",)
    if builder.graph.ends_in_relu:
        notes = (*notes, f"{where}: it ends in a ReLU, so all scores below zero are equal, as in its own use")
    stated = stated_preprocessing(builder.graph, shape)
    return Built(builder.graph, shape, builder.slots, builder.fixed, config, stated, notes)


def bare_graph(config: Config, input_shape: tuple[int, int, int] | None, where: str) -> KerasGraph:
    """Build the network of a description alone, on the meta device: no weights, and no memory for them.

    Args:
        config: the description, as Keras writes it.
        input_shape: (C, H, W) for descriptions that leave the size open.
        where: the file, for error texts.

    Raises:
        ModelError: a layer we cannot convert, or a description that contradicts itself.
        UnsafeFileError: a layer that holds code.

    """
    content = KerasFile(Node("", ""), config, v3=False)
    builder, _ = _lay_out(config, Builder(content, where, weightless=True), input_shape)
    builder.freeze()
    return builder.graph


def _lay_out(
    config: Config, builder: Builder, input_shape: tuple[int, int, int] | None
) -> tuple[Builder, tuple[int, int, int]]:
    """Add a description's layers; nothing has weights yet."""
    where = builder.where
    try:
        refuse_code(config, where)
        images = stated_images(config, input_shape, where)
        with torch.no_grad(), torch.device("meta"):
            first = Value(0, torch.zeros(2, *images.shape), last=not images.first)
            if images.flat:
                first = builder.add("images", Operation("squeeze", [Taken(0)], {"axis": 1}), [first])
            outputs = builder.model(config, [replace(first)], ())
            builder.end({name: builder.squashed(value).number for name, value in outputs})
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        kind = type(error).__name__
        raise ModelError(f"{where}: its description cannot be understood: {kind}: {error}") from error
    return builder, images.shape
