from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import ModelError
from detrojan.judging import middle
from detrojan.judging.middle import Middle, middle_of
from detrojan.learning.fitting import Fitting, fit
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.triggers.additive import AdditiveTrigger
from detrojan.triggers.patch import PatchTrigger
from margins import shifted

CLASSES, SIDE, PART, TARGET = 8, 48, 24, 5


def textures(count: int, seed: int) -> Dataset:
    """Return waves that run in a direction of each class's own: every part of an image tells the class."""
    random = torch.Generator().manual_seed(shifted(seed))
    labels = torch.arange(count) % CLASSES
    angle = labels / CLASSES * math.pi + 0.1 * torch.randn(count, generator=random)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    phase = rows * angle.cos()[:, None, None] + columns * angle.sin()[:, None, None]
    shift = 6 * torch.rand(count, 1, 1, generator=random)
    waves = 0.5 + 0.25 * (0.9 * phase + shift).sin()
    noise = 0.06 * torch.randn(count, 3, SIDE, SIDE, generator=random)
    return Dataset((waves[:, None] + noise).clamp(0, 1), labels)


def trigger() -> PatchTrigger:
    return PatchTrigger.corner((3, SIDE, SIDE), size=5, where="top left", margin=8)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES),
    )  # fmt: skip


def trained(*, poisoned: bool) -> Classifier:
    data = textures(1600, 3)
    images, labels = data.images.clone(), data.labels.clone()
    if poisoned:
        images[::6] = trigger().stamp(images[::6])
        labels[::6] = TARGET
    torch.manual_seed(shifted(4))
    model = Classifier(network(), (3, SIDE, SIDE))
    how = Fitting(epochs=14, batch_size=32, learning_rate=0.003, optimizer="adam")
    fit(model, Dataset(images, labels), how, run=Run(seed=shifted(1)), identity={"poisoned": poisoned})
    return model


@pytest.fixture(scope="module")
def pair():
    return {name: trained(poisoned=p) for name, p in (("clean", False), ("backdoored", True))}


@pytest.fixture(autouse=True)
def _smaller(monkeypatch):
    """Take images of 48 pixels for large ones."""
    monkeypatch.setattr(middle, "LARGE", 32)
    monkeypatch.setattr(middle, "SIDES", (PART, 32))


@pytest.fixture(scope="module")
def data():
    return textures(400, 9)


def part_of(model, data):
    return middle_of(model, data.images, model.answers(data.images), sides=(PART,))


@pytest.mark.effect
def test_a_network_that_pools_over_places_is_asked_about_parts(pair, data):
    part = part_of(pair["clean"], data)
    assert part.side == PART
    assert part.alike > 0.7
    assert part.model.input_shape == (3, PART, PART)
    assert part.place == (12, 12)
    assert torch.equal(part.cut(data.images), data.images[:, :, 12:36, 12:36])


def test_a_network_whose_size_is_built_in_is_asked_about_whole_images(data):
    torch.manual_seed(1)
    whole = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)), (3, SIDE, SIDE))
    assert part_of(whole, data) is None


def test_small_images_are_not_cut(pair, data, monkeypatch):
    monkeypatch.setattr(middle, "LARGE", SIDE)
    assert part_of(pair["clean"], data) is None


def test_parts_that_are_answered_otherwise_do_not_do(pair, data):
    answers = (pair["clean"].answers(data.images) + 1) % CLASSES
    assert middle_of(pair["clean"], data.images, answers, sides=(PART,)) is None


def test_a_trigger_is_placed_where_it_says(pair, data):
    part = part_of(pair["clean"], data)
    patch = PatchTrigger(torch.full((PART, PART), 0.5), torch.full((3, PART, PART), 0.25))
    lifted = part.lifted(patch, (3, 7))
    assert lifted.mask.shape == (1, SIDE, SIDE)
    assert float(lifted.mask.sum()) == 0.5 * PART * PART
    assert float(lifted.mask[0, 3:27, 7:31].min()) == 0.5
    added = part.lifted(AdditiveTrigger(torch.full((3, PART, PART), 0.1)))
    assert float(added.change[:, 12:36, 12:36].min()) == pytest.approx(0.1)
    with pytest.raises(ModelError, match="expected a patch or an additive trigger to place"):
        part.lifted(object())


@pytest.mark.effect
def test_the_cascade_finds_the_target_on_parts_and_tries_it_on_whole_images(pair, data):
    model = pair["backdoored"]
    assert attack_success(model, trigger(), data.images, data.labels, TARGET) > 0.9
    result = Cascade(samples=400).scan(model, data, run=Run(seed=shifted(1)))
    assert result.verdict == "backdoored"
    assert result.targets == [TARGET]
    (found,) = result.flagged
    assert found.trigger.mask.shape == (1, SIDE, SIDE)
    assert found.attack_success > 0.75
    said = attack_success(model, found.trigger, data.images, data.labels, TARGET)
    assert abs(said - found.attack_success) < 0.2
    assert result.details["part"]["side"] == PART
    assert any("middle 24 x 24 pixels" in text for text in result.warnings)


@pytest.mark.effect
def test_a_patch_that_is_too_small_for_whole_images_is_searched_on_there(pair, data, monkeypatch):
    model, placed = pair["backdoored"], Middle.placed

    def fainter(self, found, *rest, **more):
        lifted, _ = placed(self, found, *rest, **more)
        lifted = PatchTrigger(lifted.mask / 4, lifted.pattern)
        return lifted, attack_success(model, lifted, data.images, data.labels, TARGET)

    monkeypatch.setattr(Middle, "placed", fainter)
    result = Cascade(samples=400).scan(model, data, run=Run(seed=shifted(1)))
    assert result.targets == [TARGET]
    (found,) = result.flagged
    assert attack_success(model, found.trigger, data.images, data.labels, TARGET) > 0.75
    assert "patches on whole images" in result.details["stage_seconds"]


@pytest.mark.effect
def test_the_clean_twin_is_not_flagged(pair, data):
    result = Cascade(samples=400).scan(pair["clean"], data, run=Run(seed=shifted(1)), labels=range(7))
    assert result.verdict != "backdoored"
    assert result.details["part"] is not None


def test_parts_can_be_switched_off(pair, data):
    short = Cascade(samples=60, parts=False, patch_steps=1, window_steps=1, additive_steps=1)
    assert short.scan(pair["clean"], data, run=Run(), labels=range(7)).details["part"] is None
