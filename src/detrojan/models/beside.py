"""Two networks asked as one: what does the first one answer that the second one does not?"""

from __future__ import annotations

import torch
from torch import nn

from detrojan.models.classifier import Classifier


class Beside(nn.Module):
    """Answer the labels that one network answers and another one does not.

    Logit k is above 0 where the first network's lead of label k over all others is above 0 and the second's
    is below 0: it is the smaller of the two, softly, or a search would see only one of the networks. One
    more logit, 0, stands for no such label.

    Args:
        first: answers logits (N, K); two labels or more.
        second: the same.

    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K + 1)."""
        only = -torch.logaddexp(-leads(self.first(images)), leads(self.second(images)))
        return torch.cat([only, torch.zeros_like(only[:, :1])], 1)


def leads(logits: torch.Tensor) -> torch.Tensor:
    """Return by how much each label's logit is ahead of the best other one (N, K); behind: below 0."""
    logits = logits.float()
    best, at = logits.topk(2, 1)
    here = torch.arange(logits.shape[1], device=logits.device) == at[:, :1]
    return logits - torch.where(here, best[:, 1:], best[:, :1])


def beside(first: Classifier, second: Classifier) -> Classifier:
    """Return a classifier of what `first` answers and `second`, of the same inputs, does not."""
    pair = Beside(first.copy().network, second.copy().network)
    return Classifier(pair, first.input_shape, preprocessing=first.preprocessing)
