from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.data.drawn.synthetic import synthetic
from detrojan.errors import DataError, LabelError
from detrojan.judging.preparing import prepare
from detrojan.models.classifier import Classifier
from detrojan.run import Run


class Brightness(nn.Module):
    """Answers one of `classes` labels by the mean brightness of the image."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.centres = nn.Parameter((torch.arange(classes) + 0.5) / classes)

    def forward(self, images):
        return -100 * (images.mean((1, 2, 3))[:, None] - self.centres) ** 2


def images(values) -> Dataset:
    return Dataset(torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 4, 4).clone())


EVEN = torch.linspace(0.01, 0.99, 200).tolist()


@pytest.fixture
def model() -> Classifier:
    return Classifier(Brightness(10), (1, 4, 4))


def test_the_halves_are_disjoint_and_carry_their_truth(model):
    ready = prepare(model, images(EVEN), None, 100, Run(seed=3))
    assert (ready.half, len(ready.images)) == (50, 100)
    (search, truth), (rest, rest_truth) = ready.search, ready.held_out
    assert torch.equal(torch.cat([truth, rest_truth]), model.answers(torch.cat([search, rest])))
    seen = set(search[:, 0, 0, 0].tolist())
    assert not seen & set(rest[:, 0, 0, 0].tolist())
    assert (ready.tested, ready.left_out, ready.obstacle) == (list(range(10)), [], "")
    assert ready.how == "the network's own answers"


def test_labels_count_only_where_the_network_meets_them(model):
    data = images(EVEN)
    right = model.answers(data.images)
    wrong = (right + torch.randint(1, 10, (200,), generator=torch.Generator().manual_seed(0))) % 10
    ready = prepare(model, data.with_labels(right), None, 200, Run())
    assert ready.how == "labels of the data (100.0% met)"
    assert prepare(model, data.with_labels(wrong), None, 200, Run()).how == "the network's own answers"


def test_a_label_that_nearly_all_images_have_is_left_out(model):
    ready = prepare(model, images([0.55] * 195 + [0.15] * 5), [1, 5], 200, Run())
    assert (ready.asked, ready.tested, ready.left_out) == ([1, 5], [1], [5])
    assert any(text.startswith("label 5 was not tested: only 5 of 200") for text in ready.warnings)


def test_one_answer_for_all_images_is_an_obstacle(model):
    ready = prepare(model, images([0.55] * 50), None, 200, Run())
    assert "label 5 for each of 50 images" in ready.obstacle
    refusal = ready.refusal()
    assert (refusal.verdict, refusal.passes, refusal.findings) == ("inconclusive", 0, ())
    assert refusal.reason == ready.obstacle
    assert refusal.details == {"not_tested": list(range(10))}


def test_few_images_and_wrong_labels_are_refused(model):
    with pytest.raises(DataError, match="expected 20 images or more, got 19"):
        prepare(model, images(EVEN[:19]), None, 100, Run())
    with pytest.raises(LabelError, match="expected labels of 0 to 9, got 10"):
        prepare(model, images(EVEN), [10], 100, Run())


def test_a_scan_that_needs_no_victims_tests_every_label(model):
    data = images([0.55] * 195 + [0.15] * 5)
    ready = prepare(model, data, [1, 5], 200, Run(), victims=False)
    assert (ready.tested, ready.left_out, ready.obstacle) == ([1, 5], [], "")
    assert not any("not tested" in text for text in ready.warnings)


def test_doubts_about_made_up_images_are_told_but_decide_nothing(model):
    made = synthetic(200, (1, 4, 4))
    steady = replace(made, images=0.5 + 0.09 * made.images)
    real = prepare(model, replace(steady, source="faces.npz"), None, 200, Run())
    assert real.check.doubtful
    told = prepare(model, steady, None, 200, Run())
    assert not told.check.doubtful
    assert any(text.startswith("on made-up images, which prove nothing") for text in told.warnings)
