from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from bands import CLASSES, banded, bands
from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError
from detrojan.models.classifier import Classifier
from detrojan.repairs.lessons import FEWEST_SURE, SURE, lesson, sure_of


@pytest.fixture
def model() -> Classifier:
    return bands()


@pytest.fixture
def data() -> Dataset:
    return banded()


def test_the_network_s_own_soft_answers_are_taught_but_no_wrong_target(model, data):
    target = int(model.answers(data.images[:1]))
    different = int((model.answers(data.images) != target).nonzero()[0])
    wrong = torch.tensor([0, different])
    labels = data.labels.clone()
    labels[wrong] = (labels[wrong] + 1) % CLASSES
    taught = lesson(model, data.with_labels(labels), [target])
    assert taught.labelled
    assert torch.equal(taught.truth, labels)
    assert torch.equal(taught.images, data.images)
    own = model.probabilities(data.images)
    assert torch.equal(taught.soft[1:], own[1:])
    assert torch.equal(taught.soft[:1], functional.one_hot(labels[:1], CLASSES).float())
    assert taught.corrected.tolist() == [True] + [False] * 119
    assert taught.judged.tolist() == list(range(120))
    assert taught.kept(model) == pytest.approx(118 / 120)


def test_a_label_that_contradicts_an_answer_is_mixed_with_it(model, data):
    target = int(model.answers(data.images[:1]))
    different = int((model.answers(data.images) != target).nonzero()[0])
    wrong = torch.tensor([0, different])
    labels = data.labels.clone()
    labels[wrong] = (labels[wrong] + 1) % CLASSES
    taught = lesson(model, data.with_labels(labels), [target], correction=0.25)
    own = model.probabilities(data.images)
    hot = functional.one_hot(labels, CLASSES).float()
    assert torch.equal(taught.soft[0], hot[0])
    assert torch.allclose(taught.soft[different], 0.25 * hot[different] + 0.75 * own[different])
    right = torch.ones(len(data), dtype=torch.bool)
    right[wrong] = False
    assert torch.equal(taught.soft[right], own[right])
    assert taught.corrected.nonzero().flatten().tolist() == wrong.tolist()


def with_surplus(data: Dataset, label: int) -> Dataset:
    """Six times as many images of one label as of the others."""
    more = (data.labels == label).nonzero().flatten().repeat(5)
    return data.select(torch.cat([torch.arange(len(data)), more]))


def test_without_labels_a_target_with_unusually_many_answers_is_left_out(model, data):
    many = with_surplus(data, 1)
    taught = lesson(model, many.with_labels(None), [1, 4])
    assert not taught.labelled
    assert taught.doubted == (1,)
    kept = many.labels != 1
    assert torch.equal(taught.images, many.images[kept])
    assert torch.equal(taught.truth, model.answers(many.images)[kept])
    assert torch.equal(taught.soft, model.probabilities(many.images)[kept])
    assert taught.kept(model) == 1
    assert torch.equal(taught.dataset().labels, taught.truth)


def test_without_labels_a_target_with_usual_answers_is_taught_like_any_other(model, data):
    taught = lesson(model, data.with_labels(None), [1, 4])
    assert taught.doubted == ()
    assert torch.equal(taught.truth, data.labels)


@pytest.mark.parametrize("labels", ["of another task", "beyond the classes"])
def test_labels_that_mean_nothing_to_the_network_are_not_taught(model, data, labels):
    shuffled = data.labels[torch.randperm(120, generator=torch.Generator().manual_seed(3))]
    meaningless = shuffled if labels == "of another task" else data.labels + CLASSES
    taught = lesson(model, data.with_labels(meaningless), [1])
    assert not taught.labelled
    assert torch.equal(taught.truth, data.labels)


def test_one_label_beyond_the_classes_among_many_images_is_not_overlooked(model, data):
    """The check of the labels looks at 512 images at most; the stray one is not among them."""
    many = Dataset(data.images.repeat(10, 1, 1, 1), data.labels.repeat(10))
    stray = many.labels.clone()
    stray[1] = CLASSES
    assert lesson(model, many, [1]).labelled
    assert not lesson(model, many.with_labels(stray), [1]).labelled


def test_the_lesson_may_be_changed_without_changing_the_data(model, data):
    taught = lesson(model, data, [1])
    taught.soft.mul_(0)
    assert taught.kept(model) == 1


def test_images_of_another_shape_are_refused(model):
    wrong = Dataset(torch.zeros(4, 1, 8, 6))
    with pytest.raises(DataError, match=r"expected grey images 6 high x 8 wide x 1 .*, got 8 x 6 x 1"):
        lesson(model, wrong, [1])


def test_unlabelled_images_of_the_target_alone_are_refused(model, data):
    own = data.select(data.labels == 1).with_labels(None)
    with pytest.raises(DataError, match=r"2 or more images that the network does not answer .*, got 0 of 20"):
        lesson(model, own, [1])


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_finding_beyond_the_network_s_classes_is_refused(model, data, label):
    with pytest.raises(LabelError, match=f"expected findings of labels 0 to 5, got {label}"):
        lesson(model, data, [1, label])


def test_agreement_is_measured_on_sure_answers_only():
    soft = torch.full((100, 2), 0.5)
    soft[:40] = torch.tensor([0.95, 0.05])
    soft[40:50] = torch.tensor([SURE, 1 - SURE])
    assert sure_of(soft).tolist() == list(range(40))


def test_where_hardly_any_answer_is_sure_all_count():
    soft = torch.full((100, 2), 0.5)
    soft[: FEWEST_SURE - 1] = torch.tensor([0.99, 0.01])
    assert sure_of(soft).tolist() == list(range(100))
    soft[FEWEST_SURE - 1] = torch.tensor([0.99, 0.01])
    assert sure_of(soft).tolist() == list(range(FEWEST_SURE))


def test_an_unsure_answer_that_changes_costs_no_agreement(model, data):
    images = data.images.clone()
    images[:30] = 0.5
    images[:30, 0, :, 0] += 0.01
    taught = lesson(model, Dataset(images), [1])
    assert len(taught.images) > len(taught.judged)
    other = bands(scale=-60.0)
    assert taught.kept(model) == 1
    assert taught.kept(other) < 0.05
    unsure = torch.ones(len(taught.images), dtype=torch.bool)
    unsure[taught.judged] = False
    assert int(unsure.sum()) == 30
