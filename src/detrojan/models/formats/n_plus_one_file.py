"""Reads a model of N + 1 classes: one safetensors file with both networks and the targets.

Nothing in it is executed: each network is one that we know by name, one whose weights tell which it is, one
that the caller's own factory makes, or one that is built from the description of a Keras file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError, WeightsError
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.formats.keras.graph import bare_graph
from detrojan.models.formats.keras.network import KerasGraph
from detrojan.models.metadata import Stated, completed
from detrojan.models.nets import use_keras_epsilon
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.models.weights import Architecture, Loaded, check_finite, fit

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
    described = described if isinstance(described, dict) else {}
    net, config = described.get("net"), described.get("keras")
    if not isinstance(net, str) or not (config is None or isinstance(config, dict)):
        raise ModelError(f"{where}: expected its name or its Keras description in the metadata, got neither")
    own = {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
    asked = completed(asked, net, stated.input_shape, where)
    keras = described.get("keras_epsilon") is True
    if config is not None and asked.net is None and asked.factory is None:
        network: nn.Module = _from_description(own, config, asked, where)
        shape, details, kind = asked.input_shape, {"config": config}, "keras"
    else:
        fitted = fit(own, asked, where)
        network, shape, net, details = fitted.network, fitted.input_shape, fitted.net, {}
        kind = "keras" if keras else "safetensors"
        if keras and asked.factory is None:
            use_keras_epsilon(network)
    assert shape is not None
    return Classifier(
        network,
        shape,
        preprocessing=stated.preprocessing,
        class_names=stated.class_names[:-1],
        origin=Origin(format=kind, net=net, details=details),
    )


def _from_description(
    tensors: Mapping[str, torch.Tensor], config: dict[str, Any], asked: Architecture, where: str
) -> KerasGraph:
    """Build a network from a Keras description; memory is taken only for tensors that the file has."""
    check_finite(tensors, where)
    graph = bare_graph(config, asked.input_shape, where)
    wanted = {key: tuple(value.shape) for key, value in graph.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in tensors.items()}
    if wanted != got:
        wrong = sorted(key for key in wanted.keys() | got.keys() if wanted.get(key) != got.get(key))
        raise WeightsError(
            f"{where}: the weights do not fit its Keras description: expected {wrong[0]} "
            f"{wanted.get(wrong[0], 'not to be there')}, got {got.get(wrong[0], 'none')}"
        )
    graph.to_empty(device="cpu")
    graph.load_state_dict(dict(tensors))
    return graph
