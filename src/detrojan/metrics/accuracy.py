"""Clean accuracy, agreement and attack success rate: the same definitions everywhere."""

from __future__ import annotations

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError
from detrojan.models.classifier import Classifier
from detrojan.triggers.base import Trigger


def clean_accuracy(model: Classifier, data: Dataset) -> float:
    """Return the share of images answered with their label, 0 to 1.

    Raises:
        LabelError: no labels, or labels beyond the model's classes.

    """
    labels = data.require_labels("clean accuracy")
    if int(labels.max()) >= model.num_classes:
        raise LabelError(
            f"expected labels of 0 to {model.num_classes - 1} as the model's classes, "
            f"got labels up to {int(labels.max())}"
        )
    return float((model.answers(data.images) == labels).float().mean())


def agreement(model: Classifier, answers: torch.Tensor, images: torch.Tensor) -> float:
    """Return the share of `images` that `model` answers as in `answers`, 0 to 1."""
    return float((model.answers(images) == answers).float().mean())


def victims(images: torch.Tensor, truth: torch.Tensor, target: int | None) -> torch.Tensor:
    """Return the images whose true class is not the target: those an attack must win over.

    Raises:
        LabelError: every image is of the target's class.

    """
    if target is None:
        return images
    kept = images[truth != target]
    if len(kept) == 0:
        raise LabelError(f"expected images of classes other than the target {target}, got none")
    return kept


def attack_success(
    model: Classifier,
    trigger: Trigger,
    images: torch.Tensor,
    truth: torch.Tensor,
    target: int | torch.Tensor | None,
) -> float:
    """Return the attack success rate, 0 to 1, on images whose true class is not the target.

    Args:
        model: the network under attack.
        trigger: what is stamped.
        images: clean images (N, C, H, W).
        truth: their true labels (N,), or the clean model's answers in their stead.
        target: the label asked for, or one for each image (N,) where it depends on the image
            (all-to-all); None counts every answer that misses the truth.

    Raises:
        LabelError: no image is of another class than the one asked for.

    """
    if isinstance(target, torch.Tensor):
        others = target != truth
        if not bool(others.any()):
            raise LabelError("expected images whose label is not the one asked for, got none")
        return float((model.answers(trigger.stamp(images[others])) == target[others]).float().mean())
    if target is None:
        return float((model.answers(trigger.stamp(images)) != truth).float().mean())
    stamped = trigger.stamp(victims(images, truth, target))
    return float((model.answers(stamped) == target).float().mean())
