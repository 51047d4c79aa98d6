"""What PyTorch's formats share: a network's tensors, under the keys and in the types that its file had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import check_same_network
from detrojan.models.weights import Fitted

_WRAPPERS = ("module.", "_orig_mod.")


def unwrapped(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Strip the prefixes that data-parallel and compiled models put before every key."""
    bare = dict(tensors)
    while bare and (prefix := next((p for p in _WRAPPERS if all(key.startswith(p) for key in bare)), "")):
        bare = {key.removeprefix(prefix): value for key, value in bare.items()}
    return bare


def stored_tensors(
    described: Mapping[str, Any], storages: Mapping[str, Any], where: str
) -> dict[str, torch.Tensor]:
    """Return the tensors that a parser has found.

    Args:
        described: dtype, storage, offset, shape and stride of each tensor, by its key.
        storages: bytes by name.
        where: the file, for error texts.

    Raises:
        ModelError: a type that PyTorch does not have, or values outside of their storage.

    """
    found: dict[str, torch.Tensor] = {}
    for key, (dtype, storage, offset, shape, stride) in described.items():
        kind = getattr(torch, dtype, None)
        if not isinstance(kind, torch.dtype):
            raise ModelError(
                f"{where}: expected a type of numbers that PyTorch has in {key!r}, got {dtype!r:.40}"
            )
        try:
            raw = storages[storage]
            values = torch.from_numpy(raw).view(kind) if len(raw) else torch.empty(0, dtype=kind)
            found[key] = values.as_strided(tuple(shape), tuple(stride), offset)
        except (RuntimeError, TypeError, KeyError, ValueError) as error:
            raise ModelError(f"{where}: damaged or cut off: {error}") from error
    return found


def torch_details(
    fitted: Fitted,
    bare: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    nesting: tuple[str, ...],
) -> dict[str, Any]:
    """Return what the writer of PyTorch's formats needs to give each tensor its old key and type.

    Args:
        fitted: the filled network.
        bare: the file's tensors under the keys they were fitted by.
        tensors: the same, in the same order, under the file's own keys.
        nesting: the keys that lead to them in the file.

    """
    original = dict(zip(bare, tensors, strict=True))
    return {
        "nesting": nesting,
        "keys": {name: original[key] for name, key in fitted.keys.items()},
        "dtypes": {name: bare[key].dtype for name, key in fitted.keys.items()},
    }


def tensors_of(model: Classifier) -> dict[str, torch.Tensor]:
    """Return copies of a network's weights and buffers, under its own names."""
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.network.state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }


def filed_tensors(model: Classifier) -> dict[str, Any]:
    """Return the tensors under the keys, in the types and in the nesting that the file had.

    Raises:
        WeightsError: the network is no longer the one of its file.

    """
    tensors = tensors_of(model)
    details = model.origin.details
    keys: dict[str, str] = details.get("keys", {})
    if not keys:
        return tensors
    check_same_network(model, keys)
    content: dict[str, Any] = {key: tensors[name].to(details["dtypes"][name]) for name, key in keys.items()}
    for key in reversed(details["nesting"]):
        content = {key: content}
    return content
