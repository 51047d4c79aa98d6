"""A network with one hidden unit for each label and one for a shortcut: which way does a change move them?"""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detrojan.judging.evidence import Evidence
from detrojan.judging.policy import POLICY
from detrojan.models.classifier import Classifier
from detrojan.scans.natural import Natural
from detrojan.search.jobs import Job
from detrojan.search.plan import Found
from detrojan.triggers.additive import AdditiveTrigger
from detrojan.triggers.aim import Aim

CLASSES, COUNT = 7, 140


def natural(last: nn.Module | None = None) -> Natural:
    """The first pixels are the labels' own features, one each; the last pixel is nobody's."""
    model = Classifier(
        nn.Sequential(nn.Flatten(), last or nn.Linear(CLASSES + 1, CLASSES)), (1, 1, CLASSES + 1)
    )
    labels = torch.arange(COUNT) % CLASSES
    images = 0.1 + 0.05 * torch.rand(COUNT, 1, 1, CLASSES + 1, generator=torch.Generator().manual_seed(1))
    images[torch.arange(COUNT), 0, 0, labels] += 0.5
    return Natural(model, SimpleNamespace(images=images, answers=labels, half=COUNT // 2))


def entry(label: int, pixel: int, also: float = 0.0, size: float = 1.0) -> Evidence:
    change = torch.zeros(1, 1, CLASSES + 1)
    change[..., pixel] = 0.5
    change[..., -1] += also
    job = Job(Aim(target=label))
    found = {"additive": Found(job=job, trigger=AdditiveTrigger(change), size=size, steps=1)}
    return Evidence(job=job, sizes={}, ratios={}, p_value=0.01, by="both", index=1.0, found=found)


USUAL = [entry(label, label, also=0.1) for label in range(1, CLASSES)]


def test_a_label_that_its_own_feature_leads_to_is_ordinary_and_a_shortcut_is_not():
    looked = natural()
    own, shortcut = entry(0, 0), entry(0, CLASSES)
    assert looked.alignment(own) > 0.5
    assert looked.ordinary(own, USUAL)
    looked = natural()
    assert looked.alignment(shortcut) < 0.3
    assert not looked.ordinary(shortcut, USUAL)


@pytest.mark.parametrize(("own", "ordinary"), [(0.5, True), (0.42, True), (0.39, False), (0.1, False)])
def test_an_alignment_is_ordinary_from_the_lower_quartile_of_usual_ones_on(own, ordinary):
    looked, suspect = natural(), entry(0, 0)
    for one, value in zip([suspect, *USUAL[:5]], [own, 0.3, 0.4, 0.5, 0.6, 0.7], strict=True):
        looked.known[one.job] = (one.found["additive"], value)
    assert looked.ordinary(suspect, USUAL[:5]) == ordinary


def test_another_change_of_the_same_label_is_measured_again():
    looked = natural()
    assert looked.alignment(entry(0, 0)) > looked.alignment(entry(0, CLASSES)) + 0.2
    assert looked.measured(entry(0, 0)) is None
    same = entry(0, 0)
    assert looked.alignment(same) == looked.measured(same)


def test_where_too_few_alignments_are_known_nothing_is_ordinary():
    looked = natural()
    few = USUAL[: POLICY.fewest_alignments - 1]
    assert not looked.ordinary(entry(0, 0), few)
    unknown = [entry(label, label, size=math.inf) for label in range(1, CLASSES)]
    assert not looked.ordinary(entry(0, 0), [*few, *unknown])


@pytest.mark.parametrize("size", [1.0, math.inf])
def test_a_network_without_a_linear_end_has_no_alignments(size):
    looked = natural(nn.Identity())
    assert looked.alignment(entry(0, 0, size=size)) is None
    assert not looked.ordinary(entry(0, 0), USUAL)
