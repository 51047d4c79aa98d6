"""Reads the tensors of safetensors files, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import torch

from detrojan.errors import ModelError
from detrojan.files import refuse_special
from detrojan.parsing.safetensors_file import parse_safetensors
from detrojan.quarantine import quarantined


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file by name, in the file's order, and its metadata.

    Raises:
        ModelError: there is no such file, or it is damaged, or does not keep to the format.

    """
    path = Path(path)
    refuse_special(path, ModelError)
    found = quarantined(parse_safetensors, path)
    tensors = {}
    for name, (dtype, shape, values) in found["tensors"].items():
        kind = getattr(torch, dtype, None)
        if not isinstance(kind, torch.dtype):
            raise ModelError(f"{path}: expected a type of numbers that PyTorch has in {name!r}, got {dtype}")
        try:
            raw = torch.from_numpy(values).view(kind) if len(values) else torch.empty(0, dtype=kind)
            tensors[name] = raw.reshape(tuple(shape))
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: damaged or cut off: {error}") from error
    return tensors, found["metadata"]
