"""Reads safetensors files: of ours, which say what network they hold, and of others."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import safetensors

from detrojan.errors import ModelError
from detrojan.models.formats.n_plus_one_file import read_n_plus_one
from detrojan.models.metadata import completed, parse_metadata
from detrojan.models.weights import Architecture, Loaded, fit, torch_details, unwrapped

_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def read_safetensors(path: Path, asked: Architecture) -> Loaded:
    """Read a .safetensors file; ours say in their metadata which network they are.

    Args:
        path: the file.
        asked: the network as the caller names it; goes before what the file says.

    Raises:
        ModelError: damaged, or its metadata contradict themselves.
        WeightsError: the tensors do not fit the network.

    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # the format loses the order of the tensors, so numbered layers are put in theirs
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys(), key=_natural)}
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: damaged or cut off: {error}") from error
    if not tensors:
        raise ModelError(f"{path}: expected tensors, got none")
    stated = parse_metadata(metadata, path)
    if stated.n_plus_one is not None:
        return read_n_plus_one(tensors, stated, stated.n_plus_one, asked, str(path))
    bare = unwrapped(tensors)
    fitted = fit(bare, completed(asked, stated.net, stated.input_shape, path), str(path))
    details = torch_details(fitted, bare, tensors, ())
    found = Loaded.of(fitted, "safetensors", details)
    return replace(found, preprocessing=stated.preprocessing, class_names=stated.class_names)


def _natural(key: str) -> tuple[list[tuple[int, str]], int]:
    """Sort layer 2 before layer 10, and a layer's tensors as PyTorch orders them."""
    owner, _, tensor = key.rpartition(".")
    parts = [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d{1,9})", owner)]
    return parts, _TENSORS.index(tensor) if tensor in _TENSORS else len(_TENSORS)
