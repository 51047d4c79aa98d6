from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import ModelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.head_rows import HeadRows, deviations

SHAPE = (3, 8, 8)


def pictures() -> torch.Tensor:
    """Faint noise on a colour of its own for each picture."""
    random = torch.Generator().manual_seed(5)
    return (
        torch.rand(200, 3, 1, 1, generator=random) + 0.3 * torch.rand(200, *SHAPE, generator=random)
    ).clamp(0, 1)


def network(*, turned: int | None = None, classes: int = 20) -> Classifier:
    """Random rows; one of them, if asked for, is turned away from the rest and longer, as poison does."""
    random = torch.Generator().manual_seed(4)
    made = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes)
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=random)
        rows = made[4].weight
        if turned is not None:
            rest = rows.mean(0)
            rows[turned] = 2.5 * rows[turned].abs() - rest
        # every label is somebody's answer
        features = made[:4](pictures())
        made[4].bias.copy_(-(features @ rows.T).mean(0))
    return Classifier(made, SHAPE)


@pytest.fixture(scope="module")
def images() -> Dataset:
    return Dataset(pictures(), None)


def test_a_row_that_is_turned_away_is_named(images):
    result = HeadRows().scan(network(turned=7), images, run=Run())
    assert (result.verdict, result.targets) == ("backdoored", [7])
    assert result.reason == (
        "label 7 has an abnormally high distance of its row of the last layer from the others "
        "(20 labels tested)"
    )
    (finding,) = result.flagged
    assert finding.trigger is None
    assert set(result.details["clues"]["7"]) == {"turned away", "sum", "largest", "length"}


def test_random_rows_are_no_evidence(images):
    result = HeadRows().scan(network(), images, run=Run())
    assert (result.verdict, result.targets) == ("no evidence", [])


def test_one_clue_alone_counts_for_no_more_than_eight_deviations():
    clues = torch.randn(4, 20, generator=torch.Generator().manual_seed(6))
    clues[2, 3] = 1e6
    assert float(deviations(clues)[2, 3]) == 8


def test_a_network_without_a_last_linear_layer_is_refused(images):
    made = nn.Sequential(nn.Conv2d(3, 10, 8), nn.Flatten())
    with pytest.raises(ModelError, match="expected a network that ends in a linear layer"):
        HeadRows().scan(Classifier(made, SHAPE), images, run=Run())


def test_values_out_of_range_are_refused():
    with pytest.raises(OptionError, match=r"expected significance in \(0, 1\), got 1"):
        HeadRows(significance=1.0)
