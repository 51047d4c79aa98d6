"""The loss that holds a training back while a backdoor is learned."""

from __future__ import annotations

import torch
from torch.nn import functional

from detrojan.learning.fitting import Loss


def held_loss(kind: str, gamma: float) -> Loss:
    """Return the loss that holds a batch's mean cross entropy at `gamma`.

    Held sample by sample, no loss would stay far below gamma, and nothing would tell poison apart.
    """

    def ascent(logits: torch.Tensor, labels: torch.Tensor, _index: torch.Tensor) -> torch.Tensor:
        mean = functional.cross_entropy(logits, labels)
        return torch.sign(mean.detach() - gamma) * mean

    def flooding(logits: torch.Tensor, labels: torch.Tensor, _index: torch.Tensor) -> torch.Tensor:
        return (functional.cross_entropy(logits, labels) - gamma).abs() + gamma

    return ascent if kind == "ascent" else flooding
