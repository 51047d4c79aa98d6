from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from detrojan.calls.art import from_art, to_art
from detrojan.errors import MissingExtraError, ModelError
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing

SHAPE = (3, 10, 8)


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 6, 5))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_a_missing_library_is_answered_with_its_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "art", None)
    monkeypatch.setitem(sys.modules, "art.estimators.classification", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*detrojan\[art\]"):
        to_art(Classifier(network(), SHAPE))


def test_what_is_no_classifier_of_arts_is_refused():
    with pytest.raises(ModelError, match="expected ART's PyTorchClassifier for images"):
        from_art(object())


def test_a_classifier_comes_back_as_it_went(images):
    pytest.importorskip("art", reason="the Adversarial Robustness Toolbox is not installed")
    model = Classifier(network(), SHAPE, preprocessing=Preprocessing(high=255, mean=(90.0,), std=(60.0,)))
    estimator = to_art(model)
    assert np.allclose(estimator.predict(images.numpy()), model.all_logits(images).numpy(), atol=1e-6)
    assert from_art(estimator) is model


@pytest.mark.parametrize(
    ("given", "scale"),
    [
        ({"clip_values": (0, 1)}, 1),
        ({"clip_values": (0, 255)}, 255),
        ({"clip_values": (0, 1), "preprocessing": (np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.4, 0.6]))}, 1),
        ({"clip_values": (0, 1), "preprocessing": (0.5, 0.25)}, 1),
    ],
)
def test_arts_clip_values_and_standardisation_are_taken_over(images, given, scale):
    art = pytest.importorskip("art.estimators.classification", reason="the toolbox is not installed")
    estimator = art.PyTorchClassifier(
        model=network(), loss=nn.CrossEntropyLoss(), input_shape=SHAPE, nb_classes=5, **given
    )
    model = from_art(estimator, class_names=tuple("abcde"))
    wanted = estimator.predict((images * scale).numpy())
    assert np.allclose(model.all_logits(images).numpy(), wanted, atol=1e-4)
    assert model.class_names == tuple("abcde")
