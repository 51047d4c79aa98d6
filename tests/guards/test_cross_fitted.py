from __future__ import annotations

import math
import re

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError
from detrojan.guards.consistency import Consistency
from detrojan.guards.cross_fitted import bounded, folded, scored
from detrojan.run import Run
from twins import few_signs

RUN = Run(seed=1, device="cpu")


def test_the_folds_leave_out_each_image_once():
    parts = folded(23, 5, RUN)
    assert torch.cat([left_out for left_out, _ in parts]).sort().values.tolist() == list(range(23))
    for left_out, known in parts:
        assert torch.cat([left_out, known]).sort().values.tolist() == list(range(23))
    assert len(folded(7, 20, RUN)) == 7


def test_few_images_and_other_shapes_are_refused(twins):
    data = few_signs(60, 11)
    with pytest.raises(DataError, match="expected 16 or more clean images, got 15"):
        Consistency().calibrate(twins.backdoored, data.select(slice(15)), run=RUN)
    with pytest.raises(DataError, match="expected colour images 24 high"):
        Consistency().calibrate(twins.backdoored, Dataset(torch.zeros(20, 1, 9, 9)), run=RUN)


def test_few_images_for_the_boundary_are_told(twins):
    made = Consistency(frr=0.05).calibrate(twins.backdoored, few_signs(16, 11), run=RUN)
    assert re.search("expected 20 or more clean images for .* 5.00%.* a guess", made.warnings[-1])
    assert not bounded(made, torch.rand(30), 0.05).warnings[1:]


def test_scores_that_are_no_numbers_set_no_boundary(twins, monkeypatch):
    made = Consistency(frr=0.05).calibrate(twins.backdoored, few_signs(30, 11), run=RUN)
    lost = torch.full((3,), math.nan, dtype=torch.float64)
    monkeypatch.setattr(type(made), "score", lambda _self, _images: lost)
    with pytest.raises(DataError, match="expected a finite inconsistency of the clean images, got 3 of 3"):
        scored(made, twins.test.images[:3], run=RUN)
