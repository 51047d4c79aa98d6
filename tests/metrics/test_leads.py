from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.findings import Finding
from detrojan.jobs.repairing import Judge
from detrojan.metrics.leads import leads
from detrojan.models.classifier import Classifier
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger

CLASSES, SHAPE = 6, (1, 6, 8)


class Stepping(nn.Module):
    """Answers the column that is brightest, or the next one where the last column is white."""

    def __init__(self, moved: tuple[int, ...]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(60.0))
        self.moved = moved

    def forward(self, images):
        logits = self.scale * images[:, 0, :, :CLASSES].mean(1)
        answers = logits.argmax(1)
        steps = (images[:, 0, :, -1].mean(1) > 0.9) & torch.isin(answers, torch.tensor(self.moved))
        return torch.where(steps[:, None], logits.roll(1, 1), logits)


def network(*moved: int) -> Classifier:
    return Classifier(Stepping(moved), SHAPE)


@pytest.fixture
def data() -> Dataset:
    labels = torch.arange(60) % CLASSES
    images = torch.rand(60, *SHAPE, generator=torch.Generator().manual_seed(1)) * 0.2
    images[torch.arange(60), 0, :, labels] += 0.5
    return Dataset(images, labels)


def white(column: int = -1) -> PatchTrigger:
    mask = torch.zeros(SHAPE)
    mask[..., column] = 1
    return PatchTrigger(mask, torch.ones(SHAPE))


def finding(label: int, source: int | None, trigger: PatchTrigger | None) -> Finding:
    return Finding(
        label=label,
        aim=Aim(target=label, source=source),
        anomaly_index=3,
        attack_success=1,
        flagged=True,
        trigger=trigger,
    )


def stepping(trigger: PatchTrigger | None = None) -> list[Finding]:
    """What a scan says of an all-to-all backdoor: the trigger of each label is a copy, as read from files."""
    one = finding(0, None, None)
    return [
        dataclasses.replace(one, label=label, aim=Aim(offset=1), trigger=trigger or white())
        for label in range(CLASSES)
    ]


def test_the_labels_of_an_all_to_all_backdoor_are_one_lead(data):
    (lead,) = leads(stepping())
    assert lead.aim == Aim(offset=1)
    assert lead.success(network(*range(CLASSES)), data.images, data.labels) == 1
    assert lead.success(network(0, 1, 2), data.images, data.labels) == 0.5


@pytest.mark.parametrize(
    "findings",
    [
        [finding(1, None, white()), finding(2, None, white())],
        [finding(1, 0, white()), finding(2, None, white())],
        [finding(1, 0, white()), finding(2, 1, white(-2))],
        [finding(1, 0, white()), finding(2, 0, white())],
        [finding(1, 0, white()), finding(2, 1, white())],
    ],
    ids=["every class", "one of them every class", "another trigger", "the same class", "not all classes"],
)
def test_backdoors_of_their_own_stay_apart(findings):
    assert [lead.aim.target for lead in leads(findings)] == [1, 2]


def test_a_finding_without_a_trigger_leads_nowhere():
    assert leads([finding(1, None, None)]) == []


def test_a_trigger_of_one_class_is_judged_on_that_class(data):
    (lead,) = leads([finding(4, 3, white())])
    assert lead.aim == Aim(target=4, source=3)
    assert lead.success(network(3), data.images, data.labels) == 1
    assert Aim(target=4).success(network(3), white(), data.images, data.labels) == pytest.approx(1 / 5)


# --- what a repair is judged by ------------------------------------------------------------------------


def test_a_repair_of_an_all_to_all_backdoor_is_judged_by_where_the_trigger_leads(data):
    """Each label by itself gets a fraction of the images only, as if the trigger did not work."""
    model = network(*range(CLASSES))
    measured = Judge.of(model, data, stepping()).measure(model)
    assert [(one.label, one.attack_success, one.images) for one in measured.per_target] == [
        (label, 1.0, 60) for label in range(CLASSES)
    ]
    alone = [dataclasses.replace(one, aim=Aim(target=one.label)) for one in stepping()]
    apart = Judge.of(model, data, alone).measure(model)
    assert [one.attack_success for one in apart.per_target] == [pytest.approx(1 / 5)] * CLASSES


def test_a_trigger_that_has_nothing_to_move_is_not_judged(data):
    model, only = network(3), data.select(data.labels == 1)
    measured = Judge.of(model, only, [finding(4, 3, white())]).measure(model)
    assert measured.per_target == []
    assert measured.attack_success is None
