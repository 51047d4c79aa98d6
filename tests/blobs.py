"""Dark pictures with one bright blob each: a trigger on them survives being mixed with others."""

from __future__ import annotations

import torch

from detrojan.data.dataset import Dataset

KINDS, SIDE, TARGET = 6, 20, 2
PLACES = ((2, 2), (2, 8), (2, 14), (12, 2), (12, 8), (8, 13))


def blobs(count: int, seed: int) -> Dataset:
    """Return grey pictures, each with a bright blob where its label says."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % KINDS
    images = torch.rand(count, 1, SIDE, SIDE, generator=chance) * 0.25
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = (place + int(torch.randint(-1, 2, (), generator=chance)) for place in PLACES[label])
        light = 0.3 + 0.3 * float(torch.rand((), generator=chance))
        image[0, top : top + 5, left : left + 5] += light
    return Dataset(images, labels)
