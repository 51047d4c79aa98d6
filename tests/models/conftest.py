"""Made-up images for networks."""

import pytest
import torch


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def images(generator):
    """Return a few images of any shape."""
    return lambda *shape: torch.rand(*shape, generator=generator)
