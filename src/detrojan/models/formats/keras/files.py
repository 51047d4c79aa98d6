"""Loads Keras files: whole models into a graph of our own, weights into a named network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detrojan.errors import ModelError
from detrojan.models.formats.keras.flattening import rows_after_flatten
from detrojan.models.formats.keras.graph import build_graph
from detrojan.models.formats.keras.slots import Slot, Turn
from detrojan.models.nets import use_keras_epsilon
from detrojan.models.weights import Architecture, Loaded, check_finite, fit
from detrojan.parsing.keras_file import KerasFile, Node, read_h5, read_zip


def read_keras_h5(path: Path, asked: Architecture) -> Loaded:
    """Read a Keras .h5 file, full or weights only.

    Raises:
        ModelError: damaged, or a layer we cannot convert.
        UnsafeFileError: a Lambda layer, or links to other files.
        WeightsError: the weights do not fit the network.

    """
    content = read_h5(path)
    kind = "h5" if content.config is not None else "weights.h5" if content.v3 else "weights"
    return _load(content, path, asked, kind)


def read_keras_zip(path: Path, asked: Architecture) -> Loaded:
    """Read a .keras file.

    Raises:
        ModelError: damaged, or a layer we cannot convert.
        UnsafeFileError: a Lambda layer, or links to other files.
        WeightsError: the weights do not fit the network.

    """
    return _load(read_zip(path), path, asked, "keras")


def _load(content: KerasFile, path: Path, asked: Architecture, kind: str) -> Loaded:
    if content.config is None or asked.net is not None or asked.factory is not None:
        return _into_named(content, path, asked, kind)
    values = {v.path: torch.from_numpy(v.value) for leaf in content.root.leaves() for v in leaf.variables}
    check_finite(values, str(path))
    built = build_graph(content, asked.input_shape, str(path))
    return Loaded(
        network=built.network,
        input_shape=built.input_shape,
        format="keras",
        details={"kind": kind, "slots": built.slots, "fixed": built.fixed, "config": built.config},
        preprocessing=built.preprocessing,
        notes=built.notes,
    )


def _into_named(content: KerasFile, path: Path, asked: Architecture, kind: str) -> Loaded:
    """Put the weights into a network that is known by name, is made by a factory, or is identified."""
    slots: dict[str, Slot] = {}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tensors: dict[str, torch.Tensor] = {}
    for leaf in content.root.leaves():
        for name, slot, value in _named_slots(leaf, str(path)):
            slots[name], arrays[name], tensors[name] = slot, value, slot.to_torch(value)
    if not tensors:
        raise ModelError(f"{path}: expected layers with weights, got none")
    fitted = fit(tensors, asked, str(path), order="kind")
    if asked.factory is None:  # the file does not say the epsilon, so it is Keras's own
        use_keras_epsilon(fitted.network)
    taken = {name: slots[key] for name, key in fitted.keys.items()}
    modules = dict(fitted.network.named_modules())
    for name, maps in rows_after_flatten(fitted.network, fitted.input_shape).items():
        key = f"{name}.weight"
        slot = replace(taken[key], maps=maps)
        turned = slot.to_torch(arrays[fitted.keys[key]])
        weight = modules[name].weight
        assert isinstance(weight, torch.Tensor)
        with torch.no_grad():
            weight.copy_(turned)
        taken[key] = slot
    return Loaded.of(fitted, "keras", {"kind": kind, "slots": taken, "fixed": {}})


def _named_slots(leaf: Node, where: str) -> list[tuple[str, Slot, np.ndarray[Any, Any]]]:
    """Give a layer's arrays the names that PyTorch has for them, by their number and shapes."""
    arrays = [variable.value for variable in leaf.variables]
    ranks = tuple(array.ndim for array in arrays)
    turns: tuple[Turn, ...]
    if ranks in {(4,), (4, 1)}:
        names, turns = ("weight", "bias"), ("conv", "same")
    elif ranks in {(2,), (2, 1)}:
        names, turns = ("weight", "bias"), ("dense", "same")
    elif ranks == (1, 1, 1, 1):
        names, turns = ("weight", "bias", "running_mean", "running_var"), ("same",) * 4  # type: ignore[assignment]
    else:
        raise ModelError(
            f"{where}: expected convolutions, dense layers and batch norms for a named network, "
            f"got the layer {leaf.name or leaf.key!r} with arrays {[array.shape for array in arrays]}"
        )
    owner = (leaf.name or leaf.key).replace(".", "_")
    return [
        (f"{owner}.{name}", Slot(path=v.path, turn=turn, shape=v.value.shape), v.value)
        for name, turn, v in zip(names, turns, leaf.variables, strict=False)
    ]
