"""Keras, for comparison only: the product never imports it."""

import os
import warnings

import pytest
import torch


@pytest.fixture(scope="session")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras  # noqa: PLC0415 - after its backend is chosen

        keras.utils.set_random_seed(1)
        return keras


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def images(generator):
    """Return a few images of any shape."""
    return lambda *shape: torch.rand(*shape, generator=generator)
