"""Builds the network of a folder that timm wrote, by timm's own code; nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError, WeightsError
from detrojan.models.formats.huggingface.build import check_counts, check_size
from detrojan.models.library_nets import as_timm_says, build_by_timm
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.weights import check_finite


def timm_preprocessing(config: Mapping[str, Any], where: str) -> tuple[Preprocessing, tuple[int, int]]:
    """Return how pictures are prepared, and (H, W) of what that makes.

    Raises:
        ModelError: what the config says makes no sense.

    """
    try:
        return as_timm_says(_pretrained(config))
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{where}: its preprocessing cannot be read: {error}") from error


def _pretrained(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("pretrained_cfg", config)  # older folders have one level
    return found if isinstance(found, Mapping) else {}


def build_timm(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], where: str) -> nn.Module:
    """Return the network that a timm folder holds, filled, in evaluation mode.

    Raises:
        ModelError: a network that timm does not know, or cannot build.
        WeightsError: the weights do not fit it.
        MissingExtraError: timm is not installed.

    """
    check_finite(tensors, where)
    name, options = config["architecture"], config.get("model_args") or {}
    classes = config.get("num_classes", _pretrained(config).get("num_classes"))
    if not isinstance(options, dict) or type(classes) is not int or classes < 1:
        raise ModelError(
            f"{where}: expected a number of classes and options of its network, got {classes!r:.40}"
        )
    options = {**options, "num_classes": classes}
    check_counts(options, len(tensors), where)
    with torch.device("meta"):
        check_size(build_by_timm(name, options, where), tensors, where)
    network = build_by_timm(name, options, where)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in tensors.items()}
    wrong = [key for key in wanted if got.get(key) != wanted[key]]
    if wrong:
        raise WeightsError(
            f"{where}: the weights do not fit {name}: expected {wrong[0]} {wanted[wrong[0]]}, "
            f"got {got.get(wrong[0], 'nothing')}; and {len(wrong) - 1} more"
        )
    network.load_state_dict(
        {key: tensors[key].to(value.dtype) for key, value in network.state_dict().items()}
    )
    return network.eval()
