from __future__ import annotations

import pytest
from torch import nn

from detrojan.errors import LabelError
from detrojan.judging.preparing import labels_to_test
from detrojan.models.classifier import Classifier

MODEL = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 6)), (1, 2, 2))


def test_all_labels_by_default_and_otherwise_each_once_in_order():
    assert labels_to_test(MODEL, None) == [0, 1, 2, 3, 4, 5]
    assert labels_to_test(MODEL, [4, 1, 4]) == [1, 4]


@pytest.mark.parametrize(("labels", "got"), [([0, 6], "6"), ([-1, 7], "-1, 7"), ([], "none")])
def test_labels_beyond_the_classes_are_refused(labels, got):
    with pytest.raises(LabelError, match=f"expected labels of 0 to 5, got {got}$"):
        labels_to_test(MODEL, labels)
