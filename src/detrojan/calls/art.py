"""To and from the classifiers of the Adversarial Robustness Toolbox."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.extras import require
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing

WHAT = "classifiers of the Adversarial Robustness Toolbox"


class _Prepared(nn.Module):
    """A network that is fed images in [0, 1]: it does its own preprocessing."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.network = model.network
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of images (N, C, H, W) in [0, 1]."""
        return self.model.logits(images)


def to_art(model: Classifier) -> Any:
    """Return a classifier of ART's for images (N, C, H, W) in [0, 1]; the network is shared, not copied.

    Args:
        model: any classifier.

    Raises:
        MissingExtraError: ART is not installed.

    """
    estimators = require("art.estimators.classification", extra="art", what=WHAT)
    return estimators.PyTorchClassifier(
        model=_Prepared(model),
        loss=nn.CrossEntropyLoss(),
        input_shape=model.input_shape,
        nb_classes=model.num_classes,
        clip_values=(0.0, 1.0),
        device_type="cpu" if model.device.type == "cpu" else "gpu",
    )


def from_art(estimator: Any, class_names: tuple[str, ...] = ()) -> Classifier:
    """Return the network of ART's `PyTorchClassifier` as a classifier; it is shared, not copied.

    ART's clip values become the input range, and a standardisation by mean and standard deviation its
    preprocessing. Its defences are left out.

    Args:
        estimator: a `PyTorchClassifier`.
        class_names: one name per class, or empty.

    Raises:
        ModelError: it is no PyTorch classifier, or not of images (C, H, W).

    """
    held = getattr(estimator, "model", None)
    shape = tuple(getattr(estimator, "input_shape", ()))
    if not isinstance(held, nn.Module) or len(shape) != 3:
        raise ModelError(
            f"expected ART's PyTorchClassifier for images (C, H, W), got {type(estimator).__name__} "
            f"with input shape {shape}"
        )
    network: nn.Module = getattr(held, "_model", held)  # ART wraps what it is given
    if isinstance(network, _Prepared):
        return network.model
    channels, height, width = (int(side) for side in shape)
    low, high = (
        (0.0, 1.0) if estimator.clip_values is None else (float(np.min(v)) for v in estimator.clip_values)
    )
    standard = getattr(estimator, "preprocessing", None)  # (mean, std), or an object that holds them
    mean, std = _standard(standard)
    return Classifier(
        network,
        (channels, height, width),
        preprocessing=Preprocessing(low=low, high=high, mean=mean, std=std),
        class_names=class_names,
    )


def _standard(said: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = getattr(said, "mean", None), getattr(said, "std", None)
    if isinstance(said, tuple | list) and len(said) == 2:
        mean, std = said
    return _values(mean, 0.0), _values(std, 1.0)


def _values(said: Any, usual: float) -> tuple[float, ...]:
    return (usual,) if said is None else tuple(float(value) for value in np.atleast_1d(np.squeeze(said)))
