from __future__ import annotations

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import AnswersOnlyError, OptionError
from detrojan.metrics.accuracy import attack_success
from detrojan.models.blackbox import BlackBox
from detrojan.run import Run
from detrojan.scans.neural_cleanse import NeuralCleanse
from detrojan.scans.peaks import Peaks

LABELS = 12


def squares(pull: float):
    """Return a function that tells twelve labels apart by projections; a bright 2x2 corner speaks for 5."""
    weights = torch.randn(192, LABELS, generator=torch.Generator().manual_seed(2))

    def answer(images):
        images = torch.as_tensor(images)
        scores = 0.3 * (images - images.mean((1, 2, 3), keepdim=True)).flatten(1) @ weights
        scores[:, 5] += pull * (images[:, :, -2:, -2:].mean((1, 2, 3)) - 0.7).clamp(min=0)
        return scores.softmax(1)

    return answer


@pytest.fixture(scope="module")
def data():
    images = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Dataset(images)


def scanned(pull, data, **settings):
    model = BlackBox(squares(pull), (3, 8, 8))
    before = model.queries
    result = Peaks(**{"queries": 20000, **settings}).scan(model, data, run=Run(seed=3))
    return model, result, model.queries - before


def test_a_patch_that_leads_to_one_label_is_found_by_questions_alone(data):
    model, result, asked = scanned(60.0, data)
    assert (result.verdict, result.targets) == ("backdoored", [5])
    (found,) = result.flagged
    assert found.p_value < 0.01
    held_out = data.images[100:]
    assert attack_success(model, found.trigger, held_out, model.answers(held_out), 5) > 0.9
    assert result.details["queries"] <= 20000
    assert asked <= 20000 + 2 * 9 * 200  # the input's checks beside it


def test_without_one_there_is_no_evidence_and_what_was_not_looked_for_is_said(data):
    _, result, _ = scanned(0.0, data)
    assert (result.verdict, result.targets) == ("no evidence", [])
    assert "by answers alone: only triggers that a small patch can stand in for" in result.reason


def test_a_budget_that_is_too_small_is_inconclusive_and_says_what_is_needed(data):
    _, result, _ = scanned(60.0, data, queries=5000)
    assert result.verdict == "inconclusive"
    assert "12 labels need 7,000 queries or more, and 5,000 are allowed" in result.reason


def test_a_scan_that_needs_more_than_answers_is_refused_by_its_name(data):
    with pytest.raises(AnswersOnlyError, match="neural_cleanse needs the network's weights or gradients"):
        NeuralCleanse().scan(BlackBox(squares(0.0), (3, 8, 8)), data, run=Run())


@pytest.mark.parametrize("wrong", [{"queries": 10}, {"side": 0.9}, {"confirm": 2.0}, {"significance": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(OptionError):
        Peaks(**wrong)
