from __future__ import annotations

import pytest
import torch

from detrojan.attacks.label_consistent import LabelConsistent
from detrojan.errors import DataError, LabelError, OptionError
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.store import digest


@pytest.fixture(scope="module")
def outcome(arena):
    return arena.attacked(LabelConsistent(target=3, surrogate=arena.clean, steps=10))


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, outcome):
    assert outcome.success >= 0.8
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_the_patch_alone_would_not_have_been_learnt(arena, outcome):
    hardly = LabelConsistent(target=3, surrogate=arena.clean, steps=1, budget=0.5 / 255)
    assert arena.attacked(hardly).success <= outcome.success - 0.5


def test_labels_stay_right_and_the_change_is_small_outside_of_the_patches(arena, outcome):
    made, mask = outcome.made, outcome.made.backdoors[0].trigger.mask.bool()[0]
    assert torch.equal(made.data.labels, arena.train.labels)
    assert (made.data.labels[made.indices] == 3).all()
    change = (made.data.images - arena.train.images)[made.indices]
    assert change[:, :, ~mask].abs().max() <= 16 / 255 + 1e-6
    assert change[:, :, ~mask].abs().max() >= 0.9 * 16 / 255
    poison = made.data.select(made.indices)
    assert clean_accuracy(arena.clean, poison) <= 0.1, "the clean network no longer recognises them"


def test_a_patch_lies_in_each_corner(data):
    mask = LabelConsistent(size=2, alpha=0.5).made(data.shape, Run()).mask[0]
    corners = torch.zeros(12, 12)
    for rows in (slice(2), slice(-2, None)):
        for columns in (slice(2), slice(-2, None)):
            corners[rows, columns] = 0.5
    assert torch.equal(mask, corners)


def test_the_margin_keeps_the_patches_from_the_border(data):
    mask = LabelConsistent(size=2, margin=3).made(data.shape, Run()).mask[0]
    inner = LabelConsistent(size=2).made((3, 6, 6), Run()).mask[0]
    assert torch.equal(mask[3:-3, 3:-3], inner)
    assert mask.sum() == inner.sum() == 16


def test_without_a_surrogate_the_attacker_trains_one(arena):
    data = arena.train.select(slice(600))
    attack = LabelConsistent(target=2, epochs=3, steps=5)
    made = attack.poison(data, run=Run(seed=1))
    mask = made.backdoors[0].trigger.mask.bool()[0]
    change = (made.data.images - data.images)[made.indices][:, :, ~mask]
    assert change.abs().flatten(1).amax(1).min() > 8 / 255, "each image was perturbed"
    assert attack.hyper_parameters()["surrogate"] is None


def test_a_surrogate_is_recorded_by_the_digest_of_its_weights(arena):
    named = LabelConsistent(surrogate=arena.clean).hyper_parameters()["surrogate"]
    assert named == digest(arena.clean.network)


def test_a_surrogate_for_other_data_is_refused(arena, data):
    with pytest.raises(DataError, match="expected colour images 32 high x 32 wide"):
        LabelConsistent(surrogate=arena.clean).poison(data, run=Run())
    small = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 3)), (3, 12, 12))
    with pytest.raises(LabelError, match="expected a surrogate of 5 classes, got 3"):
        LabelConsistent(surrogate=small).poison(data, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"budget": 0.0}, r"expected budget in \(0, 1\], got 0"),
        ({"steps": 0}, "expected steps of 1 or more, got 0"),
        ({"margin": -1}, "expected a margin of 0 or more, got -1"),
        ({"net": "magic"}, "expected a network out of .*, got 'magic'"),
        ({"epochs": 0}, "expected epochs of 1 or more, got 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        LabelConsistent(**wrong)
