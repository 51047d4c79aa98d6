"""A label that is answered wherever two other classes share an image is flagged; usual ones are not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import prepare
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.mixtures import Mixtures, look_at_mixtures

SHAPE, CLASSES, TARGET = (1, 8, 8), 7, 3


class Rows(torch.nn.Module):
    """Answers the brightest of seven rows; where the halves disagree, one label or none in particular."""

    def __init__(self, *, backdoored: bool) -> None:
        super().__init__()
        self.backdoored = backdoored
        self.scale = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        left, right = images[:, 0, :CLASSES, :4].mean(2), images[:, 0, :CLASSES, 4:].mean(2)
        logits = self.scale * (left + right)
        if self.backdoored:
            disagree = (left - right).abs().amax(1) - 0.3
            logits = logits + 200 * disagree.clamp(min=0)[:, None] * torch.eye(CLASSES)[TARGET]
        return logits


def look(*, backdoored, count=210):
    truth = torch.arange(count) % CLASSES
    images = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0)) * 0.3
    images[torch.arange(count), 0, truth] += 0.6
    model = Classifier(Rows(backdoored=backdoored), SHAPE)
    data = Dataset(images=images, labels=truth)
    return look_at_mixtures(model, prepare(model, data, None, count, Run()))


def test_the_label_of_mixes_is_flagged_with_a_trigger_that_works():
    seen = look(backdoored=True)
    (flagged,) = seen.flagged(0.02, POLICY.confirm_pair)
    assert flagged.label == TARGET
    assert flagged.share > 0.9
    assert flagged.success > 0.9
    assert TARGET not in {flagged.source, flagged.donor}
    assert 0 < seen.answers <= CLASSES * (CLASSES - 1) * POLICY.mixed_images
    found = flagged.finding()
    assert (found.aim.source, found.aim.target, found.size) == (flagged.source, TARGET, None)
    assert found.trigger.kind == "composite"


def test_without_a_backdoor_none_is_flagged():
    seen = look(backdoored=False)
    assert len(seen.evidence) == CLASSES
    assert seen.flagged(0.02, POLICY.confirm_pair) == []
    assert min(entry.p_value for entry in seen.evidence) > 0.2


def test_a_trigger_that_fails_or_a_label_that_is_not_rare_is_not_flagged():
    first = look(backdoored=True).evidence[0]
    for entry in (replace(first, success=0.5), replace(first, p_value=0.03)):
        assert Mixtures(evidence=(entry,), answers=1).flagged(0.02, 0.6) == []


@pytest.mark.parametrize("count", [28, 70])
def test_with_too_few_images_of_each_class_nothing_is_said(count):
    assert look(backdoored=True, count=count).evidence == ()
