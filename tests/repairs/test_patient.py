from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.learning.augmentation import blended, shift
from detrojan.models.classifier import Classifier
from detrojan.repairs.fine_pruning import FinePruning
from detrojan.repairs.mcr import MCR
from detrojan.repairs.nad import NAD
from detrojan.repairs.patient import bears_a_high_rate

CLASSES, SHAPE = 4, (1, 6, 6)


@pytest.fixture
def data() -> Dataset:
    images = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(1))
    return Dataset(images, torch.arange(64) % CLASSES)


def long_winded(scale: float) -> Classifier:
    """Return a network with batch norms whose last layer is fed 16 features of size `scale`."""
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )
    nn.init.constant_(network[1].weight, 0)
    nn.init.constant_(network[1].bias, scale)
    return Classifier(network, SHAPE)


def test_a_network_bears_a_high_rate_with_batch_norms_and_short_features(data):
    plain = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)), SHAPE)
    assert not bears_a_high_rate(plain, data.images)
    assert bears_a_high_rate(long_winded(1.0), data.images)
    assert not bears_a_high_rate(long_winded(10.0), data.images)


def test_without_a_last_linear_layer_batch_norms_are_enough(data):
    network = nn.Sequential(nn.Conv2d(1, CLASSES, 6), nn.BatchNorm2d(CLASSES), nn.Flatten())
    assert bears_a_high_rate(Classifier(network, SHAPE), data.images)


@pytest.mark.parametrize("method", [FinePruning, NAD, MCR])
def test_long_features_are_tuned_as_without_batch_norms(method, data):
    plan, network = method(shift_pixels=1, norm_shift_pixels=3), long_winded(10.0)
    how = plan.fitting_for(network, data.images)
    assert (how.optimizer, how.learning_rate, how.frozen_norm) == ("adam", plan.learning_rate, True)
    assert how.epochs == max(plan.epochs, plan.updates)  # one batch an epoch

    def changed(vary):
        return vary(data.images, torch.Generator().manual_seed(4))

    assert torch.equal(changed(plan.changes(network, data.images)), changed(blended(shift(1))))
    short = plan.fitting_for(long_winded(1.0), data.images)
    assert (short.optimizer, short.learning_rate, short.frozen_norm) == ("sgd", plan.norm_rate, False)
