"""Two networks asked as one: a label counts where the first network answers it and the second does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.models.beside import Beside, beside, leads
from detrojan.models.classifier import Classifier


class Table(nn.Module):
    """Answer the logits that a table has for each image's first value."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.rows[images[:, 0, 0, 0].long()]


FIRST = [[3.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 4.0]]
SECOND = [[3.0, 0.0, 1.0], [5.0, 2.0, 1.0], [0.0, 6.0, 4.0]]


def test_a_lead_is_the_distance_to_the_best_other_label():
    assert leads(torch.tensor([[3.0, 0.0, 1.0]])).tolist() == [[2.0, -3.0, -2.0]]


def test_a_label_counts_where_only_the_first_network_answers_it():
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)
    logits = Beside(Table(FIRST), Table(SECOND))(images).detach()
    assert logits.shape == (3, 4)
    assert logits.argmax(1).tolist() == [3, 1, 2], "both answer 0; only the first answers 1, and 2"
    assert float(logits[1, 1]) == pytest.approx(
        -float(torch.logaddexp(torch.tensor(-1.0), torch.tensor(-3.0)))
    )


def test_the_classifier_shares_no_weights_with_the_two():
    first, second = (Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2)) for _ in range(2))
    pair = beside(first, second)
    assert pair.num_classes == 4
    with torch.no_grad():
        pair.network.first[1].weight.zero_()
    assert float(first.network[1].weight.detach().abs().sum()) > 0
