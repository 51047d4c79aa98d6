"""Judged on networks made up for it, whose answers are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.benchmark.judging import Judge
from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.input_aware import InputAwareTrigger
from detrojan.triggers.patch import PatchTrigger

SHAPE, TARGET = (1, 8, 8), 2


class OwnPixel(InputAwareTrigger):
    """Sets the image's first pixel to the image's own last one."""

    def __init__(self) -> None:
        super().__init__(SHAPE, 4)

    def stamp_from(self, images: torch.Tensor, givers: torch.Tensor) -> torch.Tensor:
        stamped = images.clone()
        stamped[..., 0, 0] = givers[..., -1, -1]
        return stamped


class Answers(nn.Module):
    """Answers the target where the first pixel fits the image (`own`) or is set at all, else the truth."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.own = own

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        truth = (images[:, 0, 3, 3] * 10).round().long().clamp(0, 3)
        first, last = images[:, 0, 0, 0], images[:, 0, -1, -1]
        fires = first == last if self.own else first > 0
        answers = torch.where(fires, torch.full_like(truth, TARGET), truth)
        return nn.functional.one_hot(answers, 4).float()


def judge(trigger) -> Judge:
    labels = torch.arange(40) % 4
    images = torch.zeros(40, *SHAPE)
    images[:, 0, 3, 3] = labels / 10
    images[:, 0, -1, -1] = torch.linspace(0.1, 0.9, 40)
    backdoor = Backdoor(trigger=trigger, target=TARGET)
    data = Dataset(images, labels)
    return Judge(test=data, truth=labels, answers=labels, backdoors=(backdoor,), classes=4)


@pytest.mark.parametrize(("own", "crossed"), [(True, 0.0), (False, 1.0)])
def test_the_trigger_of_one_image_is_tried_on_every_other(own, crossed):
    figures = judge(OwnPixel()).measure(Classifier(Answers(own=own), SHAPE))
    assert (figures["ca"], figures["asr"], figures["cross_asr"]) == (1.0, 1.0, crossed)


def test_a_trigger_for_all_images_is_not_crossed():
    figures = judge(PatchTrigger.corner(SHAPE, size=2)).measure(Classifier(Answers(own=False), SHAPE))
    assert "cross_asr" not in figures


class ByChannels(nn.Module):
    """Channel 0 shows the truth, channel 1 the trigger."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
            self.conv.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.conv(images)
        truth = (seen[:, 0, 3, 3] * 10).round().clamp(0, 3)
        answers = torch.where(seen[:, 1, 0, 0] > 0, torch.full_like(truth, TARGET), truth).long()
        return nn.functional.one_hot(answers, 4).float()


def test_a_pruning_is_followed_on_the_judging_images_and_the_network_is_unchanged():
    model = Classifier(ByChannels(), SHAPE)
    found = judge(PatchTrigger.corner(SHAPE, size=1, where="top left", margin=0, pixels="white"))
    curve = found.along(model, "conv", torch.tensor([1, 0]), [0, 1, 2])
    assert curve == {
        "units pruned": [0.0, 1.0, 2.0],
        "clean accuracy": [1.0, 1.0, 0.25],
        "attack success": [1.0, 0.0, 0.0],
    }
    assert float(model.module("conv").weight.detach().sum()) == 2.0
