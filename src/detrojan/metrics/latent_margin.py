"""How far a label can win over all others in the features that the last layer is fed."""

from __future__ import annotations

import torch

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier

#: length of the first step, as a share of the box's diagonal, and how fast steps shorten
_FIRST, _DECAY = 0.3, 0.7


def latent_margins(
    model: Classifier, images: torch.Tensor, *, quantile: float = 1.0, steps: int = 80
) -> torch.Tensor:
    """Return each label's greatest margin over all others that features within their range can give.

    For each label t: the maximum over l <= z <= u of w_t z + b_t - max over c of (w_c z + b_c), where
    u is a high quantile of each feature and l its counterpart, or 0 where features are never
    negative (after a ReLU). The problem is concave; projected subgradient ascent, all labels at once.

    Args:
        model: ends in a linear layer.
        images: (N, C, H, W) in [0, 1], whose features say what range is usual.
        quantile: which share of a feature's values lies below u; above 0.5, at most 1.
        steps: of the ascent; 1 or more.

    Returns:
        margins in logits (K,), float32.

    Raises:
        ModelError: the network does not end in a linear layer.

    """
    weight, bias = model.head_weights()
    features = model.activations(images)
    if features.ndim != 2:
        raise ModelError(
            f"expected features (N, units) before the last linear layer, got shape {tuple(features.shape)}"
        )
    high = features.quantile(quantile, 0)
    low = features.quantile(1 - quantile, 0) if float(features.min()) < 0 else torch.zeros_like(high)
    return box_margins(weight, bias, low, high, steps=steps)


def box_margins(
    weight: torch.Tensor, bias: torch.Tensor, low: torch.Tensor, high: torch.Tensor, *, steps: int
) -> torch.Tensor:
    """Return max over low <= z <= high of w_t z + b_t - max over c != t of (w_c z + b_c), for every t (K,).

    Args:
        weight: (K, D).
        bias: (K,).
        low: (D,).
        high: (D,), nowhere below `low`.
        steps: of the projected subgradient ascent; 1 or more.

    """
    labels, units = weight.shape
    # in units of the box all steps are alike
    slopes = weight * (high - low)
    offsets = bias + weight @ low
    place = (slopes > slopes.mean(0)).to(slopes.dtype)
    best = torch.full((labels,), -torch.inf)
    for step in range(steps):
        logits = place @ slopes.T
        logits += offsets
        own = logits.diagonal().clone()
        logits.fill_diagonal_(-torch.inf)
        rival, which = logits.max(1)
        best = torch.maximum(best, own - rival)
        ascent = slopes - slopes[which]
        ascent /= ascent.norm(dim=1, keepdim=True).clamp(min=1e-12)
        place = (place + ascent * (_FIRST * units**0.5 / (1 + step) ** _DECAY)).clamp_(0, 1)
    return best
