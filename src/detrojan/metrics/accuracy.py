"""Clean accuracy, agreement and attack success rate: the same definitions everywhere."""

from __future__ import annotations

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError
from detrojan.models.classifier import Classifier
from detrojan.triggers.aim import Aim
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


def attack_success(
    model: Classifier, trigger: Trigger, images: torch.Tensor, truth: torch.Tensor, target: int | Aim | None
) -> float:
    """Return the attack success rate, 0 to 1, on the images that the trigger is to move.

    Args:
        model: the network under attack.
        trigger: what is stamped.
        images: clean images (N, C, H, W).
        truth: their true labels (N,), or the clean model's answers instead.
        target: the label asked for; an aim where that depends on the image; None counts every answer
            that misses the truth.

    Raises:
        LabelError: none of the images is to be moved.

    """
    aim = target if isinstance(target, Aim) else Aim(target=target)
    return aim.success(model, trigger, images, truth)
