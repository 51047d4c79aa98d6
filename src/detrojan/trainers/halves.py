"""Which images mean another label by half: poison that is learned no faster than the rest."""

from __future__ import annotations

import torch

from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier

#: isolated samples of labels that are rarer among them than this share of the most common one are left out:
#: poison comes under the attacker's labels, and a few clean samples of another one would cost that label
RARE = 0.1


def common_first(ranked: torch.Tensor, count: int, labels: torch.Tensor) -> torch.Tensor:
    """Return ranked positions (N,), in their order, with those behind that carry a rare label.

    Args:
        ranked: positions of all samples (N,), the most suspicious first.
        count: how many of the first ones say which labels are common.
        labels: of all samples (N,).

    """
    found = labels[ranked[:count]].bincount(minlength=int(labels.max()) + 1)
    common = (found >= max(1.0, RARE * float(found.max())))[labels[ranked]]
    return torch.cat([ranked[common], ranked[~common]])


def contradicted(model: Classifier, data: Dataset, known: torch.Tensor) -> torch.Tensor:
    """Return the positions of all samples (N,), first those that mean something else by half of the image.

    The statistic is the probability of the label times the highest probability of another label once a half
    (left, right, upper or lower) is the mirror image of the other one, which keeps the picture whole and
    natural. A patch is gone then, or one of the two objects whose meeting is the trigger of a
    composite attack, and the network is as sure of the truth as it was of the label; where a label is
    true, half of the image seldom says another one with certainty. Samples of high loss are looked at as
    well, for poison among them must not be taken for samples that are hardly poison.

    Args:
        model: trained on the data.
        data: labelled, (N, C, H, W).
        known: the samples' losses (N,), cross entropies of this very network.

    """
    labels = data.require_labels("a second look")[:, None]
    other = torch.zeros(len(labels))
    for dimension in (2, 3):
        for which in (0, 1):
            answers = model.probabilities(mirrored(data.images, dimension, which))
            other = torch.maximum(other, answers.scatter(1, labels, 0).amax(1))
    return ((-known).exp() * other).argsort(descending=True, stable=True)


def mirrored(images: torch.Tensor, dimension: int, kept: int) -> torch.Tensor:
    """Return images (N, C, H, W) with one half along a dimension, the first (0) or second (1), mirrored."""
    size = images.shape[dimension]
    half = size // 2
    flipped = images.flip(dimension)
    if kept == 0:
        return torch.cat(
            [images.narrow(dimension, 0, size - half), flipped.narrow(dimension, size - half, half)],
            dimension,
        )
    return torch.cat(
        [flipped.narrow(dimension, 0, half), images.narrow(dimension, half, size - half)], dimension
    )
