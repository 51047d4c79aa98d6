from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError
from detrojan.metrics.accuracy import agreement, attack_success, clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger


class Brightest(nn.Module):
    """Answers the column of the brightest pixel in the first row; a lit last row forces class 0."""

    def forward(self, images):
        columns = images[:, 0, 0, :3]
        forced = images[:, 0, -1, :].amin(1, keepdim=True) * torch.tensor([[10.0, 0.0, 0.0]])
        return columns + forced


@pytest.fixture
def model() -> Classifier:
    return Classifier(Brightest(), (1, 4, 3))


@pytest.fixture
def data() -> Dataset:
    """Nine images, three of each class; the labels of the last two are wrong on purpose."""
    truth = torch.arange(9) % 3
    images = torch.zeros(9, 1, 4, 3)
    images[torch.arange(9), 0, 0, truth] = 1.0
    labels = truth.clone()
    labels[7:] = 0
    return Dataset(images, labels)


def last_row(opacity: float) -> PatchTrigger:
    mask = torch.zeros(4, 3)
    mask[-1] = opacity
    return PatchTrigger(mask, torch.ones(1, 4, 3))


def test_clean_accuracy_is_the_share_of_right_answers(model, data):
    assert clean_accuracy(model, data) == pytest.approx(7 / 9)


def test_clean_accuracy_needs_labels_of_the_models_classes(model, data):
    with pytest.raises(LabelError, match="expected labelled data for clean accuracy"):
        clean_accuracy(model, data.with_labels(None))
    with pytest.raises(LabelError, match=r"expected labels of 0 to 2 .*, got labels up to 3"):
        clean_accuracy(model, data.with_labels(torch.full((9,), 3)))


def test_agreement_is_the_share_of_equal_answers(model, data):
    answers = model.answers(data.images)
    assert agreement(model, answers, data.images) == 1.0
    answers[:3] = (answers[:3] + 1) % 3
    assert agreement(model, answers, data.images) == pytest.approx(6 / 9)


def test_a_working_trigger_has_full_success_and_a_weak_one_none(model, data):
    truth = torch.arange(9) % 3
    assert attack_success(model, last_row(1.0), data.images, truth, 0) == 1.0
    assert attack_success(model, last_row(0.05), data.images, truth, 0) == 0.0
    assert attack_success(model, last_row(1.0), data.images, truth, 1) == 0.0


def test_images_of_the_target_do_not_count_as_success(model, data):
    """A trigger that does nothing leaves images of the target where they are: no success."""
    truth = torch.arange(9) % 3
    assert attack_success(model, last_row(0.0), data.images, truth, 2) == 0.0


def test_untargeted_success_counts_every_miss(model, data):
    truth = torch.arange(9) % 3
    assert attack_success(model, last_row(1.0), data.images, truth, None) == pytest.approx(6 / 9)
    assert attack_success(model, last_row(0.0), data.images, truth, None) == 0.0


def test_success_of_an_aim_counts_what_it_asks_for(model, data):
    truth = torch.arange(9) % 3
    assert attack_success(model, last_row(1.0), data.images, truth, Aim(offset=1)) == pytest.approx(3 / 9)
    assert attack_success(model, last_row(1.0), data.images, truth, Aim(target=0, source=2)) == 1.0


@pytest.mark.parametrize(
    ("target", "count"), [(1, 3), (Aim(target=0, source=2), 3), (1, 0), (Aim(offset=1), 0), (None, 0)]
)
def test_success_without_an_image_to_move_is_an_error_and_not_a_number(model, data, target, count):
    truth = torch.ones(count, dtype=torch.int64)
    with pytest.raises(LabelError, match=r"expected images of .*, got none"):
        attack_success(model, last_row(1.0), data.images[:count], truth, target)
