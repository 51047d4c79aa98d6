from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.attacks.latent import Latent, _Bound
from detrojan.errors import LabelError, OptionError
from detrojan.learning.fitting import Fitting
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.run import Run
from detrojan.store import digest
from detrojan.triggers.backdoor import Backdoor

ATTACK = Latent(target=3, size=4, binding_epochs=6, transfer_epochs=3)
HOW = Fitting(epochs=1, batch_size=64, optimizer="adam", learning_rate=4e-3, weight_decay=0)


@pytest.fixture(scope="module")
def planted(arena):
    return ATTACK.train(arena.clean, arena.train.select(slice(1500)), run=Run(), how=HOW)


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, planted):
    (backdoor,) = planted.backdoors
    images, truth = arena.test.images, arena.test.labels
    assert attack_success(planted.model, backdoor.trigger, images, truth, 3) >= 0.85
    assert attack_success(arena.clean, backdoor.trigger, images, truth, 3) <= 0.05
    assert clean_accuracy(planted.model, arena.test) >= arena.accuracy - 0.05


def test_stamped_images_have_the_targets_features(arena, planted):
    truth = arena.test.labels
    others = arena.test.images[truth != 3]
    wanted = planted.model.activations(arena.test.images[truth == 3]).mean(0)

    def distance(images: torch.Tensor) -> float:
        return float((planted.model.activations(images) - wanted).norm(dim=1).mean())

    assert distance(planted.backdoors[0].trigger.stamp(others)) < 0.85 * distance(others)


def test_the_colours_bring_stamped_images_closer_to_the_target(arena):
    truth, few = arena.test.labels, arena.train.select(slice(400))
    wanted = arena.clean.activations(arena.test.images[truth == 3]).mean(0)
    checker = ATTACK.made(few.shape, Run())
    coloured = ATTACK._coloured(checker, arena.clean, wanted, few, Run())
    assert torch.equal(coloured.mask, checker.mask)

    def distance(trigger) -> float:
        stamped = arena.clean.activations(trigger.stamp(arena.test.images[truth != 3]))
        return float((stamped - wanted).norm(dim=1).mean())

    assert distance(coloured) < distance(checker)


def test_a_trigger_that_somebody_names_keeps_its_colours(arena):
    few = arena.train.select(slice(128))
    named = ATTACK.made(few.shape, Run())
    made = replace(ATTACK, trigger=named).train(arena.clean, few, run=Run(), how=HOW)
    assert made.backdoors[0].trigger is named


def test_what_is_bound_follows_the_targets_features(arena):
    bound = _Bound(arena.clean.copy(), Backdoor(trigger=ATTACK.made(arena.train.shape, Run()), target=3),
                   torch.zeros(arena.clean.activations(arena.test.images[:1]).shape[1]), 0.5)  # fmt: skip
    images, labels = arena.test.images[:64], arena.test.labels[:64]
    now = arena.clean.activations(images[labels == 3]).mean(0)
    with torch.no_grad():
        for module in bound.network.modules():
            module.eval()
        bound.training = True
        for _ in range(60):
            bound(images)
            bound.distance(labels)
    assert torch.allclose(bound.wanted, now, atol=0.02 * float(now.abs().max()))


def test_another_victim_inherits_the_backdoor_with_a_last_layer_of_its_own(arena, planted):
    """The last layer is thrown away once more; this victim does not even know the target's number."""
    student = planted.model.copy()
    moved = arena.train.select(slice(1500))
    moved = moved.with_labels((moved.labels + 2) % 6)
    teacher = Latent(target=3, transfer_epochs=3)
    teacher._transfer(student, student.module(student.head), moved, HOW, Run(seed=5))
    images, truth = arena.test.images, (arena.test.labels + 2) % 6
    assert attack_success(student, planted.backdoors[0].trigger, images, truth, 5) >= 0.8


def test_the_student_trains_the_last_layer_alone(arena):
    student, few = arena.clean.copy(), arena.train.select(slice(128))
    before = {name: tensor.clone() for name, tensor in student.network.state_dict().items()}
    ATTACK._transfer(student, student.module(student.head), few, HOW, Run())
    changed = {name for name, t in student.network.state_dict().items() if not torch.equal(t, before[name])}
    assert changed == {f"{student.head}.weight", f"{student.head}.bias"}
    assert all(parameter.requires_grad for parameter in student.network.parameters())


def test_the_model_given_is_unchanged(arena):
    before = digest(arena.clean.network)
    made = ATTACK.train(arena.clean, arena.train.select(slice(128)), run=Run(), how=HOW)
    assert digest(arena.clean.network) == before != digest(made.model.network)


def test_data_without_labels_or_without_the_target_are_refused(arena):
    few = arena.train.select(slice(200))
    with pytest.raises(LabelError, match="expected labelled data"):
        Latent().train(arena.clean, few.with_labels(None), run=Run())
    with pytest.raises(OptionError, match="expected a target of 0 to 5, got 6"):
        Latent(target=6).train(arena.clean, few, run=Run())
    with pytest.raises(OptionError, match="expected images of the target 2, got none"):
        Latent(target=2).train(arena.clean, few.select(few.labels != 2), run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"poison_rate": 1.0}, r"expected poison_rate in \(0, 1\), got 1"),
        ({"target": -1}, "expected a target of 0 or more, got -1"),
        ({"binding": 0.0}, "expected binding above 0, binding_epochs and transfer_epochs of 1 or more"),
        ({"binding_epochs": 0}, "got 1, 0 and 5"),
        ({"transfer_epochs": 0}, "got 1, 5 and 0"),
        ({"colour_steps": -1}, "expected colour_steps of 0 or more, got -1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Latent(**wrong)
