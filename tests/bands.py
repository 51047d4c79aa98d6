"""A network that needs no training: it answers the column that is brightest."""

from __future__ import annotations

import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from detrojan.triggers.patch import PatchTrigger

CLASSES, SHAPE = 6, (1, 6, 8)


class Bands(nn.Module):
    """Answers the column that is brightest, as surely as `scale` says."""

    def __init__(self, scale: float = 60.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images):
        return self.scale * images[:, 0, :, :CLASSES].mean(1)


def bands(scale: float = 60.0) -> Classifier:
    return Classifier(Bands(scale), SHAPE)


def banded(count: int = 120) -> Dataset:
    """Noise with a bright column, the label's."""
    labels = torch.arange(count) % CLASSES
    images = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1)) * 0.2
    images[torch.arange(count), 0, :, labels] += 0.5
    return Dataset(images, labels)


def column(label: int) -> PatchTrigger:
    """A trigger that whitens a column."""
    mask = torch.zeros(SHAPE)
    mask[..., label] = 1
    return PatchTrigger(mask, mask)
