"""Safetensors files: ours, which say what network they hold, and those of others."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import safetensors.torch

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import Content, Format, built_again
from detrojan.models.formats.n_plus_one_file import read_n_plus_one
from detrojan.models.formats.parts import fit_part
from detrojan.models.formats.state_dict import filed_tensors, tensors_of, torch_details
from detrojan.models.metadata import completed, metadata_of, parse_metadata
from detrojan.models.weights import Architecture, Loaded
from detrojan.tensor_files import read_tensors

_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class SafetensorsFile(Format):
    """Tensors without code."""

    name = "safetensors"
    kind = "a .safetensors file"
    listed = ((".safetensors", "tensors; ours say which network they are; others as .pt"),)
    suffixes = (".safetensors",)
    precedence = 10
    holds_described = True

    def recognises(self, content: Content) -> bool:
        """Tell whether a file begins with the length of a JSON object, and that object."""
        head = content.head
        if len(head) <= 8 or head[8:9] != b"{":
            return False
        return int.from_bytes(head[:8], "little") <= max(content.size, 1 << 20)

    def read(self, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
        """Read the tensors, and what our metadata say of them."""
        return read_safetensors(path, asked)

    def write(self, model: Classifier, path: Path) -> None:
        """Write the tensors with metadata that say which network they are.

        A model that came in such a file keeps its keys, types and metadata, and what else was in it.
        """
        details = model.origin.details
        own = model.origin.format == self.name and "keys" in details
        tensors = {**filed_tensors(model), **details["rest"]} if own else tensors_of(model)
        metadata = details["metadata"] if own else {}
        safetensors.torch.save_file(tensors, path, {**metadata, **metadata_of(model)})


def read_safetensors(path: Path, asked: Architecture) -> Loaded:
    """Read a .safetensors file; ours say in their metadata which network they are.

    Args:
        path: the file.
        asked: the network as the caller names it; goes before what the file says.

    Raises:
        ModelError: damaged, or its metadata contradict themselves.
        WeightsError: the tensors do not fit the network.

    """
    stored, metadata = read_tensors(path)
    # the format loses the order of the tensors, so numbered layers are put in theirs
    tensors = {key: stored[key] for key in sorted(stored, key=_natural)}
    if not tensors:
        raise ModelError(f"{path}: expected tensors, got none")
    stated = parse_metadata(metadata, path)
    if stated.n_plus_one is not None:
        return read_n_plus_one(tensors, stated, stated.n_plus_one, asked, str(path))
    asked = completed(asked, stated.net, stated.input_shape, path)
    found = built_again(tensors, stated.described, asked, str(path)) if stated.described else None
    if found is None:
        fitted, bare, own = fit_part(tensors, asked, str(path), order="none")
        details = torch_details(fitted, bare, own, ())
        used = set(details["keys"].values())
        rest = {key: tensor for key, tensor in tensors.items() if key not in used}
        found = Loaded.of(fitted, "safetensors", {**details, "rest": rest, "metadata": metadata})
    return replace(
        found,
        format="safetensors",
        preprocessing=stated.preprocessing or found.preprocessing,
        class_names=stated.class_names,
        output=stated.output,
    )


def _natural(key: str) -> tuple[list[tuple[int, str]], int]:
    """Sort layer 2 before layer 10, and a layer's tensors as PyTorch orders them."""
    owner, _, tensor = key.rpartition(".")
    parts = [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d{1,9})", owner)]
    return parts, _TENSORS.index(tensor) if tensor in _TENSORS else len(_TENSORS)
