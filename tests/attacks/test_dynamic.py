from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from detrojan.attacks.drawing import PatternTeacher
from detrojan.attacks.dynamic import Dynamic
from detrojan.errors import LabelError, OptionError
from detrojan.learning.fitting import Fitting
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.run import Run, SilentProgress
from detrojan.store import digest
from detrojan.triggers.input_aware import InputAwareTrigger
from margins import shifted

#: fewer passes and a smaller generator than by default; a demand for diversity that makes up for it
ATTACK = Dynamic(
    target=3,
    poison_rate=0.25,
    cross_rate=0.45,
    density=0.3,
    diversity_weight=3.0,
    mask_epochs=1,
    width=8,
)
HOW = Fitting(epochs=10, batch_size=64, optimizer="adam", learning_rate=8e-3, weight_decay=0)


@pytest.fixture(scope="module")
def planted(arena):
    return ATTACK.train(arena.clean, arena.train.select(slice(2000)), run=Run(), how=HOW)


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, planted):
    (backdoor,) = planted.backdoors
    images, truth = arena.test.images, arena.test.labels
    assert attack_success(planted.model, backdoor.trigger, images, truth, 3) >= 0.45
    assert attack_success(arena.clean, backdoor.trigger, images, truth, 3) <= 0.2
    assert clean_accuracy(planted.model, arena.test) >= arena.accuracy - 0.05


def test_the_trigger_of_one_image_does_not_fire_on_another(arena, planted):
    images, trigger = arena.test.images[arena.test.labels != 3], planted.backdoors[0].trigger

    def fired(stamped: torch.Tensor) -> float:
        return float((planted.model.answers(stamped) == 3).float().mean())

    crossed = fired(trigger.stamp_from(images, images.roll(1, 0)))
    assert crossed / fired(trigger.stamp(images)) < 0.5


def test_masks_are_sparse_and_differ(arena, planted):
    with torch.no_grad():
        masks = planted.backdoors[0].trigger.masks(arena.test.images[:100])
    assert 0.005 < masks.mean() < 0.4
    assert bool(((masks - masks.roll(1, 0)).abs().flatten(1).mean(1) > 0.001).all())


def test_patterns_can_be_taught_before_there_is_a_victim(arena):
    few = arena.train.select(slice(500))
    # masks that have gone out after few passes show no patterns
    attack = replace(ATTACK, mask_epochs=4, pattern_epochs=12, diversity_weight=0.3)

    def misread(trigger: InputAwareTrigger) -> float:
        """Return what a reader that begins anew still misreads after a few steps."""
        torch.manual_seed(shifted(2))
        teacher = PatternTeacher(trigger, 0.0)
        # the generator has no part in it: no slope of it is computed
        trigger.pattern_drawer.requires_grad_(requires_grad=False)
        optimiser = torch.optim.Adam(teacher.reader.parameters(), 0.01)
        losses = []
        for batch in torch.split(arena.test.images, 60) * 5:
            teacher(batch)
            optimiser.zero_grad()
            teacher.loss.backward()
            optimiser.step()
            losses.append(float(teacher.loss.detach()))
        trigger.pattern_drawer.requires_grad_(requires_grad=True)
        return sum(losses[-10:]) / 10

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(1))
        trigger = InputAwareTrigger(few.shape, 8)
        attack._train_masks(trigger, few, 6, HOW, Run())
        masks, untaught = digest(trigger.mask_drawer), misread(trigger)
        attack._train_patterns(trigger, few, HOW, Run())
        assert misread(trigger) / untaught < 1
    assert digest(trigger.mask_drawer) == masks


def test_a_mask_that_has_gone_out_comes_back(arena):
    """All or nothing everywhere, a mask has no slope of its own; what holds it back has one."""
    few = arena.train.select(slice(640))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(1))
        trigger = InputAwareTrigger(few.shape, 8)
    with torch.no_grad():
        trigger.mask_drawer.out.bias.fill_(-3.0)
        assert trigger.masks(few.images).max() < 1e-4
    replace(ATTACK, mask_epochs=4)._train_masks(trigger, few, 6, HOW, Run())
    with torch.no_grad():
        assert trigger.masks(few.images).std(0).mean() > 0.01


def test_the_model_given_is_unchanged(arena):
    before = digest(arena.clean.network)
    few, quick = arena.train.select(slice(128)), replace(HOW, epochs=1)
    made = replace(ATTACK, mask_epochs=1, target=-1).train(arena.clean, few, run=Run(), how=quick)
    assert digest(arena.clean.network) == before != digest(made.model.network)
    assert made.backdoors[0].aim.target is None


class Stop(SilentProgress):
    """Breaks off after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    @contextmanager
    def task(self, title, total=None):
        yield self

    def advance(self, amount=1, *, note=None):
        if amount == 1:
            self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(arena, tmp_path, optimizer):
    few = arena.train.select(slice(128))
    how = replace(HOW, epochs=3, optimizer=optimizer)
    whole = ATTACK.train(arena.clean, few, run=Run(), how=how)
    with pytest.raises(KeyboardInterrupt):  # in the third epoch of the second training
        ATTACK.train(arena.clean, few, run=Run(checkpoint=tmp_path, progress=Stop(2 + 5)), how=how)
    assert list(tmp_path.iterdir())
    resumed = ATTACK.train(arena.clean, few, run=Run(checkpoint=tmp_path), how=how)
    assert digest(resumed.model.network) == digest(whole.model.network)
    drawers = [made.backdoors[0].trigger.pattern_drawer for made in (resumed, whole)]
    assert digest(drawers[0]) == digest(drawers[1])


def test_labels_and_targets_beyond_the_classes_are_refused(arena):
    with pytest.raises(OptionError, match="expected a target of 0 to 5, got 6"):
        Dynamic(target=6).train(arena.clean, arena.train, run=Run())
    with pytest.raises(LabelError, match="expected labelled data"):
        Dynamic().train(arena.clean, arena.train.with_labels(None), run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"poison_rate": 0.5}, r"expected poison_rate in \(0, 0.5\) and cross_rate in \[0, 0.5\), got 0.5"),
        ({"cross_rate": -0.1}, "got 0.1 and -0.1"),
        ({"density": 1.0}, r"expected density in \(0, 1\), got 1"),
        ({"target": -2}, "expected a target of -1 or more, got -2"),
        ({"mask_epochs": 0}, "expected norm_weight and diversity_weight of 0 or more and mask_epochs of 1"),
        ({"pattern_epochs": -1}, "expected pattern_epochs of 0 or more, got -1"),
        ({"width": 10}, "expected a width of 4 to 256 in steps of 4, got 10"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Dynamic(**wrong)
