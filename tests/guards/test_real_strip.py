from __future__ import annotations

import numpy as np
import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.guards.strip import Strip
from detrojan.metrics.detection import detection
from detrojan.models.loading import load_model
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run


@pytest.mark.realdata
def test_a_third_party_s_backdoored_mnist_network_is_guarded(shared_data):
    """A white 5x5 patch means 1; the paper's setting, its 1% and its addition of the images."""
    with np.load(shared_data / "mnist.npz", allow_pickle=False) as file:
        images = torch.from_numpy(file["x_test"]).float()[:, None] / 255
        labels = torch.from_numpy(file["y_test"]).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    model = load_model(
        shared_data / "models" / "verazuo" / "badnet-MNIST.pth",
        net="mnist_cnn",
        preprocessing=Preprocessing(low=-1, high=1),
    )
    bad = images[2000:2350][labels[2000:2350] != 1].clone()
    bad[:, :, 23:28, 23:28] = 1
    assert float((model.answers(bad) == 1).float().mean()) > 0.99
    guard = Strip(copies=60).calibrate(model, Dataset(images[:900]), run=Run())
    found = detection(guard.score(images[1000:1600]), guard.score(bad), guard.threshold)
    assert found.far < 0.01
    assert 0.001 < found.frr < 0.03
    assert found.auroc > 0.999
