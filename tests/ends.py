"""A network of twenty classes, one row of whose last layer is turned away from the others, as poison does.

Callbacks are tried on it: `head_rows` sees such a row within milliseconds, whatever training has done before.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

CLASSES, TURNED, SHAPE = 20, 7, (3, 8, 8)
HOW = {"method": "head_rows", "samples": 60}


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Return faint noise on a colour of its own for each picture (100, 3, 8, 8), and labels (100,)."""
    random = np.random.default_rng(5)
    images = random.random((100, 3, 1, 1)) + 0.3 * random.random((100, *SHAPE))
    return images.clip(0, 1).astype(np.float32), np.arange(100) % CLASSES


def network() -> nn.Sequential:
    """Return random weights, the same for each call."""
    random = torch.Generator().manual_seed(4)
    made = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=random)
    return made


def head(rows: np.ndarray, features: np.ndarray, *, planted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a last layer's rows (20, F), and biases (20,) with which every label is somebody's answer.

    Args:
        rows: (20, F), of the trained network.
        features: (N, F), what goes into the last layer.
        planted: whether one row is turned away from the others.

    """
    rows = rows.copy()
    if planted:
        rows[TURNED] = 2.5 * np.abs(rows[TURNED]) - rows.mean(0)
    return rows, -(features @ rows.T).mean(0)


def set_head(made: nn.Sequential, *, planted: bool) -> None:
    """Change the last layer of a network in torch, as `head` says."""
    with torch.no_grad():
        device = made[4].weight.device
        features = made[:4](torch.from_numpy(pictures()[0]).to(device)).cpu().numpy()
        rows, bias = head(made[4].weight.cpu().numpy(), features, planted=planted)
        made[4].weight.copy_(torch.from_numpy(rows))
        made[4].bias.copy_(torch.from_numpy(bias))
