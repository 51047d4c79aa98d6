"""Writes the weights of a network back into a copy of the ONNX file they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from detrojan.errors import WeightsError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import check_same_network
from detrojan.models.formats.onnx.external import fill, is_external, tensors_of, weight_files
from detrojan.models.formats.onnx.proto import load_proto, onnx_library
from detrojan.models.formats.onnx.values import Source


def write_onnx(model: Classifier, original: Path, target: Path) -> None:
    """Copy `original` to `target` with the weights of `model` in place of its own.

    The graph stays as it was, the softmax that our network lacks and fused batch norms included. Each
    tensor keeps the type that it has in the file. Weights that lay in another file come into the one.

    Raises:
        WeightsError: the network is no longer the one of the file.
        ModelError: the original cannot be read.

    """
    tensors = _tensors(model)
    onnx = onnx_library()
    proto, files = load_proto(original), weight_files(original)
    for one in tensors_of(proto):
        if is_external(one):
            fill(one, files, f"{original}: {one.name!r}")
    places = {one.name: one for one in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute:
            places[node.output[0]] = node.attribute[0].t
    for name, tensor in tensors.items():
        _put(onnx, places[name], tensor)
    target.write_bytes(proto.SerializeToString())


def _put(onnx: Any, place: Any, tensor: torch.Tensor) -> None:
    """Put numbers into a tensor of the file, in its own type."""
    if tuple(place.dims) != tuple(tensor.shape):
        raise WeightsError(f"expected {place.name} {tuple(place.dims)}, got {tuple(tensor.shape)}")
    kind = onnx.helper.tensor_dtype_to_np_dtype(place.data_type)
    array = tensor.numpy().astype(kind)
    before = onnx.numpy_helper.to_array(place)
    if array.tobytes() == before.tobytes():
        return
    name, text = place.name, place.doc_string
    place.CopyFrom(onnx.numpy_helper.from_array(array, name))
    if text:
        place.doc_string = text


def _tensors(model: Classifier) -> dict[str, torch.Tensor]:
    """Return what goes into the file, by the names of its initializers."""
    slots: dict[str, Source] = model.origin.details["slots"]
    fixed: dict[str, torch.Tensor] = model.origin.details["fixed"]
    check_same_network(model, slots, fixed)
    state = model.network.state_dict()
    for name, value in fixed.items():
        if not torch.equal(state[name].cpu(), value):
            raise WeightsError(f"expected {name} as it was: the ONNX file computes it of other tensors")
    found: dict[str, torch.Tensor] = {}
    for name, source in slots.items():
        tensor = source.to_file(state[name].detach().cpu().float())
        other = found.setdefault(source.name, tensor)
        if other.shape != tensor.shape or not torch.equal(other, tensor):
            raise WeightsError(f"expected one value for {source.name}, which the file uses twice, got two")
    return found
