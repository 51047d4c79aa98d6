"""Reads a model of N + 1 classes: one safetensors file with both networks and the targets.

Nothing in it is executed: each network is one that we know by name, one whose weights tell which it is, one
that the caller's own factory makes, or one that is built from the description of a Keras file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.formats.base import built_again
from detrojan.models.metadata import Stated, completed
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.models.weights import Architecture, Loaded, fit

_PARTS = ("original", "repaired")


def read_n_plus_one(
    tensors: Mapping[str, torch.Tensor],
    stated: Stated,
    networks: Mapping[str, Any],
    asked: Architecture,
    where: str,
) -> Loaded:
    """Build a model of N + 1 classes from a file's tensors and metadata.

    Args:
        tensors: those of both networks, under "original." and "repaired.", and "targets".
        stated: the file's metadata.
        networks: what they say of each of the two networks (see `n_plus_one.describe`).
        asked: the networks as the caller names them; goes before what the file says.
        where: the file, for error texts.

    Raises:
        ModelError: metadata or tensors that make no such model, or a network that cannot be told.
        WeightsError: the tensors do not fit the networks.

    """
    targets = _targets(tensors, where)
    strange = [key for key in tensors if key != "targets" and key.partition(".")[0] not in _PARTS]
    if strange:
        raise ModelError(
            f"{where}: expected tensors of the original and of the repaired network, got {strange[0]!r}"
        )
    asked = replace(asked, classes=None)  # whoever counts, counts N + 1
    original, repaired = (
        _part(name, tensors, networks.get(name), stated, asked, f"{where}: {name} network") for name in _PARTS
    )
    try:
        model = n_plus_one(original, repaired, targets)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    return Loaded(
        network=model.network,
        input_shape=model.input_shape,
        format="safetensors",
        net=model.origin.net,
        details=model.origin.details,
        preprocessing=model.preprocessing,
        class_names=model.class_names,
    )


def _targets(tensors: Mapping[str, torch.Tensor], where: str) -> list[int]:
    found = tensors.get("targets")
    if found is None or found.ndim != 1 or found.dtype != torch.int64:
        got = "none" if found is None else f"{found.dtype} {tuple(found.shape)}"
        raise ModelError(f"{where}: expected a list of whole numbers as the tensor 'targets', got {got}")
    labels: list[int] = found.tolist()
    return labels


def _part(
    name: str,
    tensors: Mapping[str, torch.Tensor],
    described: Any,
    stated: Stated,
    asked: Architecture,
    where: str,
) -> Classifier:
    """Return one of the two networks."""
    said = described if isinstance(described, dict) else {}
    net = said.get("net")
    if not isinstance(net, str):
        raise ModelError(f"{where}: expected its name or its description in the metadata, got neither")
    own = {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
    asked = completed(asked, net, stated.input_shape, where)
    found = built_again(own, said, asked, where)
    if found is None:
        found = Loaded.of(fit(own, asked, where), "safetensors", {})
    return Classifier(
        found.network,
        found.input_shape,
        preprocessing=stated.preprocessing,
        class_names=stated.class_names[:-1],
        origin=Origin(format=found.format, net=found.net, details=found.details),
        output=str(said.get("output", "")) or None,
    )
