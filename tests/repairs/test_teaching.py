from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.learning.augmentation import blended, shift
from detrojan.models.classifier import Classifier
from detrojan.repairs.lessons import lesson
from detrojan.repairs.teaching import Teaching
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger

CLASSES, SHAPE, TARGET = 4, (1, 6, 6), 2
STICKER = PatchTrigger(torch.ones(6, 6).tril(-4), torch.ones(SHAPE))


@pytest.fixture
def model() -> Classifier:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))
    nn.init.normal_(network[1].weight, generator=torch.Generator().manual_seed(3))
    return Classifier(network, SHAPE)


@pytest.fixture
def data(model) -> Dataset:
    images = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(1))
    return Dataset(images, torch.arange(64) % CLASSES)


def test_the_very_images_are_answered_as_they_were_changed(model, data):
    answered = int(model.answers(data.images[:1]))
    labels = model.answers(data.images)
    labels[0] = (answered + 1) % CLASSES
    taught = lesson(model, data.with_labels(labels), [answered])
    augment, loss = Teaching(teacher=model, taught=taught, vary=blended(shift(1))).functions(Run())
    index = torch.tensor([0, 40, 41])
    shown = augment(data.images[index], torch.Generator().manual_seed(5))
    assert not torch.equal(shown, data.images[index])
    student = model.copy()
    with torch.no_grad():
        wanted = model.logits(shown).softmax(1)
        student.network[1].bias += 1.0
        student.network[1].weight += 0.1
    # what the lesson corrects is taught as it says
    wanted[0] = functional.one_hot(labels[0], CLASSES)
    logits = student.logits(shown)
    found = loss(logits, labels[index], index)
    assert torch.allclose(found, functional.cross_entropy(logits, wanted))
    found.backward()
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert all(parameter.grad is not None for parameter in student.network.parameters())


def test_the_teacher_does_not_see_the_trigger_and_never_means_the_target_by_it(model, data):
    taught = lesson(model, data, [TARGET])
    teaching = Teaching(
        teacher=model, taught=taught, vary=blended(shift(1)), stamps=[(TARGET, STICKER)], stamped=0.5
    )
    augment, loss = teaching.functions(Run())
    bare, _ = Teaching(teacher=model, taught=taught, vary=blended(shift(1))).functions(Run())
    index = torch.arange(64)
    shown = augment(data.images, torch.Generator().manual_seed(5))
    plain = bare(data.images, torch.Generator().manual_seed(5))
    carries = (shown != plain).flatten(1).any(1)
    assert int(carries.sum()) == 32
    assert torch.equal(shown[carries], STICKER.stamp(plain[carries]))
    with torch.no_grad():
        wanted = model.logits(plain).softmax(1)
    wanted[carries, TARGET] = 0
    wanted /= wanted.sum(1, keepdim=True)
    wanted = torch.where(taught.corrected[:, None], taught.soft, wanted)
    logits = model.logits(shown)
    each = functional.cross_entropy(logits, wanted, reduction="none")
    # stamped images of the target itself do not count
    counts = ~carries | (data.labels != TARGET)
    assert 0 < int((~counts).sum()) < 32
    assert torch.allclose(loss(logits, data.labels, index), each[counts].mean())


def test_several_triggers_share_the_stamped_images(model, data):
    other = PatchTrigger(torch.ones(6, 6).triu(4), torch.zeros(SHAPE))
    teaching = Teaching(
        teacher=model,
        taught=lesson(model, data, [TARGET, 0]),
        vary=blended(shift(0)),
        stamps=[(TARGET, STICKER), (0, other)],
        stamped=0.25,
    )
    augment, _ = teaching.functions(Run())
    shown = augment(data.images, torch.Generator().manual_seed(5))
    corner = [shown[:, 0, -1, 0] == 1, shown[:, 0, 0, -1] == 0]
    assert [int(part.sum()) for part in corner] == [8, 8]
    assert not (corner[0] & corner[1]).any()
