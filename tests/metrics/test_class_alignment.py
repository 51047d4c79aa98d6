from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.metrics.class_alignment import FEWEST_OWN, ClassAlignment
from detrojan.models.classifier import Classifier
from detrojan.triggers.additive import AdditiveTrigger

SIDE, COUNT = 4, 40


def network(last: nn.Module) -> Classifier:
    """Features are the pixels."""
    return Classifier(nn.Sequential(nn.Flatten(), last), (1, SIDE, SIDE))


def material() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of label 1 are bright in the upper half; all have some noise."""
    images = 0.2 + 0.1 * torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    answers = torch.zeros(COUNT, dtype=torch.long)
    answers[::2] = 1
    images[answers == 1, :, :2] += 0.5
    return images, answers


def change(rows: slice) -> AdditiveTrigger:
    pixels = torch.zeros(1, SIDE, SIDE)
    pixels[:, rows] = 0.3
    return AdditiveTrigger(pixels)


def test_what_adds_the_labels_own_feature_is_aligned_and_another_feature_is_not():
    images, answers = material()
    compass = ClassAlignment(network(nn.Linear(SIDE * SIDE, 2)), images, answers, COUNT // 2)
    natural, other = (compass.of(change(rows), 1) for rows in (slice(0, 2), slice(2, 4)))
    assert natural > 0.6
    assert abs(other) < 0.3
    assert compass.of(change(slice(0, 2)), 0) < -0.6


def test_only_images_that_were_held_out_are_stamped():
    images, answers = material()

    class Seen(AdditiveTrigger):
        kind = ""

        def stamp(self, given):
            counts.append(given)
            return super().stamp(given)

    counts: list[torch.Tensor] = []
    compass = ClassAlignment(network(nn.Linear(SIDE * SIDE, 2)), images, answers, COUNT // 2)
    compass.of(Seen(torch.zeros(1, SIDE, SIDE)), 1)
    victims = images[COUNT // 2 :][answers[COUNT // 2 :] != 1]
    assert torch.equal(torch.cat(counts), victims)


@pytest.mark.parametrize("own", [FEWEST_OWN - 1, COUNT])
def test_with_too_few_images_of_either_kind_nothing_is_said(own):
    images, answers = material()
    answers = (torch.arange(COUNT) < own).long()
    compass = ClassAlignment(network(nn.Linear(SIDE * SIDE, 2)), images, answers, COUNT // 2)
    assert compass.of(change(slice(0, 2)), 1) is None


def test_a_network_without_a_linear_end_is_refused():
    images, answers = material()
    with pytest.raises(ModelError):
        ClassAlignment(network(nn.Identity()), images, answers, COUNT // 2)
