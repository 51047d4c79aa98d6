"""Writes the weights of a network back into a copy of the Keras file they came from."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import torch

from detrojan.errors import WeightsError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import check_same_network
from detrojan.models.formats.keras.slots import Slot
from detrojan.parsing.keras_file import damaged, read_members


def write_keras(model: Classifier, original: Path, target: Path) -> None:
    """Copy `original` to `target` with the weights of `model` in place of its own.

    Everything else in the file, the softmax that our network lacks among it, stays as it was.

    Raises:
        WeightsError: the network is no longer the one of the file.
        ModelError: the original cannot be read.

    """
    arrays = _arrays(model)
    with damaged(str(original)):
        content = original.read_bytes()
        if model.origin.details["kind"] != "keras":
            target.write_bytes(_replaced(content, arrays))
            return
        members = read_members(original)
        with zipfile.ZipFile(target, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, _replaced(data, arrays) if name == "model.weights.h5" else data)


def _replaced(content: bytes, arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        for path, array in arrays.items():
            file[path][...] = array
    return buffer.getvalue()


def _arrays(model: Classifier) -> dict[str, Any]:
    """Return the arrays by their path in the file."""
    slots: dict[str, Slot] = model.origin.details["slots"]
    fixed: dict[str, float] = model.origin.details["fixed"]
    check_same_network(model, slots, fixed)
    state = model.network.state_dict()
    for name, value in fixed.items():
        if not torch.all(state[name] == value):
            raise WeightsError(
                f"expected {name} to be {value:g} everywhere: the Keras file has no place for it"
            )
    for name, slot in slots.items():
        if tuple(state[name].shape) != slot.torch_shape():
            raise WeightsError(f"expected {name} {slot.torch_shape()}, got {tuple(state[name].shape)}")
    return {slot.path: slot.to_keras(state[name]) for name, slot in slots.items()}
