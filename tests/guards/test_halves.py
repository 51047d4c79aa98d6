from __future__ import annotations

import math
import re

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError
from detrojan.guards.consistency import Consistency
from detrojan.guards.halves import boundary_at, bounded, halves, scored
from detrojan.run import Run
from twins import few_signs

RUN = Run(seed=1, device="cpu")


def test_a_further_score_reaches_the_boundary_as_often_as_asked():
    chance = torch.Generator().manual_seed(0)
    rates = []
    for _ in range(400):
        scores = torch.rand(99, generator=chance, dtype=torch.float64)
        rates.append(1 - boundary_at(scores, 0.05))  # the probability that a uniform number reaches it
    assert sum(rates) / len(rates) == pytest.approx(0.05, abs=0.006)


def test_of_few_scores_the_boundary_lies_beyond_all():
    assert boundary_at(torch.arange(5.0), 0.01) == math.nextafter(4.0, math.inf)
    assert boundary_at(torch.arange(9.0), 0.5) == 4


def test_above_a_score_that_many_share_nobody_is_rejected():
    scores = torch.cat([torch.arange(20.0), torch.full((80,), 50.0)])
    assert boundary_at(scores, 0.05) == math.nextafter(50.0, math.inf)
    assert boundary_at(scores, 0.9) == pytest.approx(9, abs=1)


def test_the_halves_share_no_image_and_few_images_are_refused(twins):
    data = few_signs(60, 11)
    known, rest = halves(Consistency(), twins.backdoored, data, run=RUN)
    assert len(known) + len(rest) == len(data)
    assert abs(len(known) - len(rest)) <= 1
    seen = {image.numpy().tobytes() for image in known.images}
    assert not any(image.numpy().tobytes() in seen for image in rest.images)
    with pytest.raises(DataError, match="expected 16 or more clean images, got 15"):
        halves(Consistency(), twins.backdoored, data.select(slice(15)), run=RUN)
    with pytest.raises(DataError, match="expected colour images 24 high"):
        halves(Consistency(), twins.backdoored, Dataset(torch.zeros(20, 1, 9, 9)), run=RUN)


def test_few_images_for_the_boundary_are_told(twins):
    made = Consistency(frr=0.05).calibrate(twins.backdoored, few_signs(30, 11), run=RUN)
    assert re.search("expected 40 or more clean images for .* 5.00%.* a guess", made.warnings[-1])
    assert not bounded(made, torch.rand(30), 0.05).warnings[1:]


def test_scores_that_are_no_numbers_set_no_boundary(twins, monkeypatch):
    made = Consistency(frr=0.05).calibrate(twins.backdoored, few_signs(30, 11), run=RUN)
    lost = torch.full((3,), math.nan, dtype=torch.float64)
    monkeypatch.setattr(type(made), "score", lambda _self, _images: lost)
    with pytest.raises(DataError, match="expected a finite inconsistency of the clean images, got 3 of 3"):
        scored(made, twins.test.images[:3], run=RUN)
