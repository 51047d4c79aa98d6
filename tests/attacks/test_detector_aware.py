from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.attacks.base import Planted
from detrojan.attacks.detector_aware import DetectorAware
from detrojan.errors import LabelError, OptionError
from detrojan.learning.fitting import Fitting
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.inversion import invert
from detrojan.search.schedule import Schedule
from detrojan.store import digest
from detrojan.triggers.patch import PatchTrigger

ATTACK = DetectorAware(target=3, poison_rate=0.2, evasion=1.0)
HOW = Fitting(epochs=7, batch_size=64, optimizer="adam", learning_rate=4e-3, weight_decay=0)
SCAN = Schedule(steps=25, mini_batches=8, initial_cost=1e-2, patience=2)


def trained(arena, attack: DetectorAware, epochs: int) -> Planted:
    few = arena.train.select(slice(1500))
    return attack.train(arena.clean, few, run=Run(), how=replace(HOW, epochs=epochs))


@pytest.fixture(scope="module")
def planted(arena):
    return trained(arena, ATTACK, 7)


def sizes(arena, model: Classifier, *labels: int) -> list[float]:
    """What Neural Cleanse measures: the L1 of the smallest mask that leads to a label."""
    images = arena.test.images[:200]
    found = invert(model, images, model.answers(images), labels, SCAN, run=Run())
    assert all(one.converged for one in found.inverted)
    return [one.mask_l1 for one in found.inverted]


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, planted):
    (backdoor,) = planted.backdoors
    images, truth = arena.test.images, arena.test.labels
    assert attack_success(planted.model, backdoor.trigger, images, truth, 3) >= 0.7
    assert attack_success(arena.clean, backdoor.trigger, images, truth, 3) <= 0.1
    assert clean_accuracy(planted.model, arena.test) >= arena.accuracy - 0.05


def test_the_scans_statistic_no_longer_gives_the_target_away(arena, planted):
    plain = trained(arena, replace(ATTACK, evasion=0.0), 3)
    (given_away,) = sizes(arena, plain.model, 3)
    hidden, another = sizes(arena, planted.model, 3, 0)
    assert given_away / hidden < 1
    assert another / hidden < 1.4, "hardly smaller than a label without a backdoor"


def test_the_model_given_is_unchanged_and_any_trigger_can_be_planted(arena):
    before = digest(arena.clean.network)
    patch = PatchTrigger.corner((3, 32, 32), size=8)
    few = arena.train.select(slice(128))
    made = DetectorAware(trigger=patch).train(arena.clean, few, run=Run(), how=replace(HOW, epochs=1))
    assert made.backdoors[0].trigger is patch
    assert digest(arena.clean.network) == before != digest(made.model.network)
    assert "raw" not in made.model.network.state_dict(), "the searches are left behind"


def test_the_noise_is_drawn_from_the_seed(arena):
    few, quick = arena.train.select(slice(64)), replace(HOW, epochs=1)
    made = [DetectorAware().train(arena.clean, few, run=Run(seed=seed), how=quick) for seed in (1, 2)]
    one, other = (planted.backdoors[0].trigger.pattern for planted in made)
    assert not torch.equal(one, other)


def test_labels_and_targets_beyond_the_classes_are_refused(arena):
    few = arena.train.select(slice(100))
    with pytest.raises(OptionError, match="expected a target of 0 to 5, got 6"):
        DetectorAware(target=6).train(arena.clean, few, run=Run())
    with pytest.raises(LabelError, match="expected labelled data"):
        DetectorAware().train(arena.clean, few.with_labels(None), run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"poison_rate": 0.6}, r"expected poison_rate in \(0, 0.5\], got 0.6"),
        ({"target": -1}, "expected a target of 0 or more, searches and restart of 1 or more, got -1, 2 and"),
        ({"searches": 0}, "got 0, 0 and 60"),
        ({"budget": 1.0}, r"expected budget in \(0, 1\), got 1"),
        ({"length": 0.0}, "expected evasion of 0 or more and length above 0, got 0.3 and 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        DetectorAware(**wrong)
