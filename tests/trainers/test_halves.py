from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from detrojan.trainers.base import losses
from detrojan.trainers.halves import common_first, contradicted, mirrored


class Corners(nn.Module):
    """Answers 0 where nothing is lit, 1 for the upper left pixel, 2 for the lower right, 3 for both."""

    def forward(self, images):
        first, second = images[:, 0, 0, 0], images[:, 0, -1, -1]
        both = torch.minimum(first, second)
        return 9 * torch.stack([0.5 * torch.ones_like(first), first - both, second - both, both], 1)


def test_half_of_each_image_is_mirrored():
    images = torch.arange(15.0).view(1, 1, 3, 5)
    left, right = (mirrored(images, 3, which)[0, 0, 0].tolist() for which in (0, 1))
    assert left == [0, 1, 2, 1, 0]
    assert right == [4, 3, 2, 3, 4]
    upper, lower = (mirrored(images, 2, which)[0, 0, :, 0].tolist() for which in (0, 1))
    assert upper == [0, 5, 0]
    assert lower == [10, 5, 10]


@pytest.mark.parametrize("sides", [(4, 4), (5, 6)])
def test_samples_whose_halves_say_something_else_come_first(sides):
    images = torch.zeros(12, 1, *sides)
    labels = torch.zeros(12, dtype=torch.int64)
    # two objects that mean a third thing together
    images[[3, 8], 0, 0, 0] = images[[3, 8], 0, -1, -1] = 1.0
    labels[[3, 8]] = 3
    # an object whose mirror image means something else as well, though less
    images[5, 0, 0, 0] = 0.7
    labels[5] = 1
    model = Classifier(Corners(), (1, *sides))
    data = Dataset(images, labels)
    order = contradicted(model, data, losses(model, data)).tolist()
    assert sorted(order) == list(range(12))
    assert sorted(order[:2]) == [3, 8]
    # one that the network does not answer with its label says nothing
    wrong = labels.clone()
    wrong[8] = 2
    data = Dataset(images, wrong)
    order = contradicted(model, data, losses(model, data)).tolist()
    assert order[0] == 3
    assert order.index(8) > 1


def test_rare_labels_of_the_first_ones_come_last():
    labels = torch.tensor([2] * 30 + [1] * 3 + [0] * 5)
    ranked = torch.cat([torch.tensor([35, 30, 31]), torch.arange(30), torch.tensor([32, 33, 34, 36, 37])])
    order = common_first(ranked, 33, labels)
    assert sorted(order.tolist()) == list(range(38))
    # 30 of label 2, 2 of label 1, 1 of label 0: a tenth of the most common one is 3
    assert order[:30].tolist() == list(range(30))
    assert order[30:].tolist() == [35, 30, 31, 32, 33, 34, 36, 37]
    # two of label 1 beside 18 of label 2 are not rare
    assert order.equal(common_first(ranked, 40, labels)) is False
    assert common_first(ranked, 21, labels)[:20].tolist() == [30, 31, *range(18)]
