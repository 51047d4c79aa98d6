from __future__ import annotations

import numpy as np
import pytest
import torch

from detrojan.errors import DataError, LabelError, ModelError, OptionError
from detrojan.filters.spectral import Spectral, explained, projections
from detrojan.metrics.detection import auroc
from detrojan.run import Run

PLAN = Spectral(poison_rate=0.15)


def test_poison_gets_the_highest_scores_of_its_class(lots):
    data, bad = lots.poisoned.data, lots.poisoned.indices
    found = PLAN.suspect(data, model=lots.on_poisoned, run=Run())
    same = (data.labels == lots.target).nonzero().flatten()
    dirty = torch.isin(same, bad)
    assert auroc(found.scores[same[~dirty]], found.scores[same[dirty]]) > 0.5
    flagged = same[found.flagged[same]]
    # by chance it would be 0.23 of either
    assert float(torch.isin(flagged, bad).double().mean()) > 0.35
    assert float(found.flagged[bad].double().mean()) > 0.35


def test_the_same_samples_without_poison_are_nothing_special(lots):
    """On clean data it flags its fixed share, and not those samples that would have been poisoned."""
    found = PLAN.suspect(lots.clean, model=lots.on_clean, run=Run())
    assert float(found.flagged.double().mean()) == pytest.approx(0.225, abs=0.01)
    assert float(found.flagged[lots.poisoned.indices].double().mean()) < 0.45


def test_the_share_that_is_flagged_is_told_by_class_and_order(lots):
    found = PLAN.suspect(lots.clean, model=lots.on_clean, run=Run())
    assert found.classes[0]["flagged"] == 57
    assert found.classes[0]["samples"] == 250
    scores = found.scores[found.positions]
    assert len(scores) == int(found.flagged.sum())
    assert bool((scores.diff() <= 0).all())


def test_projections_are_those_of_an_independent_decomposition():
    chance = np.random.default_rng(1)
    points = chance.normal(size=(60, 7)) * np.arange(1, 8)
    centred = points - points.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    wanted = (centred @ vectors[:, -1]) ** 2
    assert np.allclose(projections(torch.from_numpy(points)).numpy(), wanted)
    assert explained(torch.from_numpy(points)) == pytest.approx(values[-1] / values.sum())
    assert explained(torch.ones(5, 3).double()) == 0


def test_small_classes_are_left_alone_with_a_warning(lots):
    few = lots.clean.select(torch.cat([torch.arange(30), torch.arange(60, 64)]))
    found = PLAN.suspect(few.select(few.labels != 1), model=lots.on_clean, run=Run())
    assert found.warnings == ("classes with fewer than 10 samples are not judged: 0, 2, 3, 4, 5",)
    assert not bool(found.flagged.any())


def test_what_does_not_fit_is_refused(lots):
    few = lots.clean.select(slice(30))
    with pytest.raises(LabelError, match="expected labelled data for a filter"):
        PLAN.suspect(few.with_labels(None), model=lots.on_clean, run=Run())
    with pytest.raises(LabelError, match="expected labels of 0 to 5 as the model's classes, got up to 9"):
        PLAN.suspect(few.with_labels(torch.full((30,), 9)), model=lots.on_clean, run=Run())
    with pytest.raises(ModelError, match="expected a layer out of"):
        Spectral(layer="no").suspect(few, model=lots.on_clean, run=Run())
    wrong = type(few)(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DataError, match="expected grey images 20 high x 20 wide"):
        PLAN.suspect(wrong, model=lots.on_clean, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"poison_rate": 0.0}, r"expected poison_rate in \(0, 1\), got 0"),
        ({"factor": 0.0}, "expected a factor above 0, got 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Spectral(**wrong)


def test_it_says_which_share_it_always_flags():
    assert PLAN.limits(40) == ("22.5% of each class is always flagged, poisoned or not.",)
    assert len(PLAN.limits(0)) == 2
    assert Spectral(poison_rate=0.9).limits(1)[0].startswith("100% of each class")
