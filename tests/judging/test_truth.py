"""Labels count where they mean something to the network, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from detrojan.judging.truth import foreign, meaningful
from twins import CLASSES


def test_its_own_labels_mean_something(twins):
    meant, check = meaningful(twins.clean, twins.test)
    assert meant is twins.test
    assert check.labels_fit
    assert not foreign(twins.clean, twins.test)


@pytest.mark.parametrize(
    "other",
    [
        lambda labels: (labels + 3) % CLASSES,  # another task's, within the network's classes
        lambda labels: labels + CLASSES,
        lambda labels: torch.where(torch.arange(len(labels)) == 17, CLASSES, labels),  # a single one
    ],
    ids=["another order", "beyond the classes", "one beyond the classes"],
)
def test_labels_of_another_task_are_left_out(twins, other):
    data = twins.test.with_labels(other(twins.test.labels))
    meant, check = meaningful(twins.clean, data)
    assert meant.labels is None
    assert torch.equal(meant.images, data.images)
    assert not check.labels_fit
    assert foreign(twins.clean, data) == (int(data.labels.max()) >= CLASSES)


def test_without_labels_there_are_none(twins):
    data = twins.test.with_labels(None)
    assert meaningful(twins.clean, data)[0].labels is None
    assert not foreign(twins.clean, data)
