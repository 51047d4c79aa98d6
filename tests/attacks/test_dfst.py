from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.attacks.dfst import DFST, sunset
from detrojan.errors import LabelError, OptionError
from detrojan.learning.fitting import Fitting
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.run import Run
from detrojan.store import digest

ATTACK = DFST(target=3, poison_rate=0.15, style_epochs=2, rounds=1, detox_epochs=2, detox_rate=0.2, width=8)
HOW = Fitting(epochs=3, batch_size=64, optimizer="adam", learning_rate=4e-3, weight_decay=0)


@pytest.fixture(scope="module")
def planted(arena):
    return ATTACK.train(arena.clean, arena.train.select(slice(1500)), run=Run(), how=HOW)


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, planted):
    (backdoor,) = planted.backdoors
    images, truth = arena.test.images, arena.test.labels
    assert attack_success(planted.model, backdoor.trigger, images, truth, 3) >= 0.8
    assert attack_success(arena.clean, backdoor.trigger, images, truth, 3) <= 0.25
    assert clean_accuracy(planted.model, arena.test) >= arena.accuracy - 0.05


def test_the_style_brings_its_colours_and_keeps_what_is_shown(arena, planted):
    images = arena.test.images[:200]
    styled = planted.backdoors[0].trigger.stamp(images)
    style = sunset(arena.test.shape, Run().generator("dfst", "sunset"))

    def off(some: torch.Tensor) -> float:
        return float((some.mean((2, 3)) - style.mean((1, 2))).norm(dim=1).mean())

    assert off(styled) < 0.6 * off(images)
    edges, kept = (some.diff(dim=3).flatten() for some in (images, styled))
    assert torch.corrcoef(torch.stack([edges, kept]))[0, 1] > 0.6


def test_detoxification_takes_away_what_is_fainter_than_the_style(arena, planted):
    few = arena.train.select(slice(1500))
    plain = replace(ATTACK, rounds=0).train(arena.clean, few, run=Run(), how=HOW)
    trigger, others = plain.backdoors[0].trigger, arena.test.images[arena.test.labels != 3]
    assert digest(trigger.drawer) == digest(planted.backdoors[0].trigger.drawer), "the same style"
    faint = torch.lerp(others, trigger.stamp(others), 0.4)

    def fired(model) -> float:
        return float((model.answers(faint) == 3).float().mean())

    assert fired(planted.model) < fired(plain.model) - 0.1


def test_the_model_given_is_unchanged(arena):
    before = digest(arena.clean.network)
    few, quick = arena.train.select(slice(128)), replace(HOW, epochs=1)
    made = replace(ATTACK, target=-1, style_epochs=1).train(arena.clean, few, run=Run(), how=quick)
    assert digest(arena.clean.network) == before != digest(made.model.network)
    assert made.backdoors[0].aim.target is None


def test_the_sunset_is_warm_below_and_works_in_grey():
    picture = sunset((3, 32, 32), Run().generator("s"))
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture[0, -4:].mean() > picture[0, :4].mean() + 0.2
    assert picture[2, -4:].mean() < picture[2, :4].mean() - 0.2
    assert sunset((1, 16, 20), Run().generator("s")).shape == (1, 16, 20)


def test_labels_and_targets_beyond_the_classes_are_refused(arena):
    few = arena.train.select(slice(100))
    with pytest.raises(OptionError, match="expected a target of 0 to 5, got 6"):
        DFST(target=6).train(arena.clean, few, run=Run())
    with pytest.raises(LabelError, match="expected labelled data"):
        DFST().train(arena.clean, few.with_labels(None), run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"strength": 0.0}, r"expected strength in \(0, 1\], got 0"),
        ({"detox_rate": 2.0}, r"expected detox_rate in \(0, 1\], got 2"),
        ({"target": -2}, "expected a target of -1 or more, got -2"),
        ({"rounds": -1}, "expected content and rounds of 0 or more, style_epochs and detox_epochs of 1 or"),
        ({"style_epochs": 0}, "got 1, 2, 0 and 3"),
        ({"width": 10}, "expected a width of 4 to 256 in steps of 4, got 10"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        DFST(**wrong)
