"""Dark pictures with one bright blob each: a trigger on them survives being mixed with others."""

from __future__ import annotations

import torch

from detrojan.data.dataset import Dataset
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.learning.fresh import start_net
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from kept import trained_once
from margins import shifted

KINDS, SIDE, TARGET = 6, 20, 2
HOW = Fitting(epochs=8, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
PLACES = ((2, 2), (2, 8), (2, 14), (12, 2), (12, 8), (8, 13))


def blobs(count: int, seed: int) -> Dataset:
    """Return grey pictures, each with a bright blob where its label says."""
    chance = torch.Generator().manual_seed(shifted(seed))
    labels = torch.arange(count) % KINDS
    images = torch.rand(count, 1, SIDE, SIDE, generator=chance) * 0.25
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = (place + int(torch.randint(-1, 2, (), generator=chance)) for place in PLACES[label])
        light = 0.3 + 0.3 * float(torch.rand((), generator=chance))
        image[0, top : top + 5, left : left + 5] += light
    return Dataset(images, labels)


def trained(data: Dataset) -> Classifier:
    """Train a network of max pooling on blobs: a second or two."""
    run = Run(seed=3)
    model = start_net("mnist_cnn_max", data.shape, classes=KINDS, run=run)
    return trained_once(model, lambda: fit(model, data, HOW, run=run, augment=shift(2)), data, HOW)
