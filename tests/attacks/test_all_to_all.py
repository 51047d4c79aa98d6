from __future__ import annotations

import pytest
import torch

from detrojan.attacks.all_to_all import AllToAll
from detrojan.errors import OptionError
from detrojan.metrics.accuracy import attack_success
from detrojan.run import Run


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(AllToAll(poison_rate=0.4, size=4))
    assert outcome.success >= 0.9, "the share that is answered with exactly the next class"
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.03


def test_each_label_becomes_the_one_after_the_next(data):
    made = AllToAll(offset=2, poison_rate=0.5).poison(data, run=Run())
    before = data.labels[made.indices]
    assert torch.equal(made.data.labels[made.indices], (before + 2) % 5)
    assert set(before.tolist()) == set(range(5))


def test_only_the_label_asked_for_counts_as_success(arena):
    (backdoor,) = AllToAll(offset=2).planted(arena.test.shape, Run())
    images, truth = arena.test.images[:60], arena.test.labels[:60]
    answers = arena.clean.answers(backdoor.trigger.stamp(images))
    wrong = answers + 1  # never what the network answers
    assert attack_success(arena.clean, backdoor.trigger, images, truth, wrong % 6) == 0
    asked = torch.where(torch.arange(60) < 30, answers, wrong)
    others = asked != truth
    expected = float((answers == asked)[others].float().mean())
    assert attack_success(arena.clean, backdoor.trigger, images, truth, asked) == pytest.approx(expected)


def test_an_offset_that_changes_nothing_is_refused(data):
    with pytest.raises(OptionError, match="expected an offset that is no multiple of the 5 classes, got 10"):
        AllToAll(offset=10).poison(data, run=Run())
    with pytest.raises(OptionError, match="expected an offset of 1 or more, got 0"):
        AllToAll(offset=0)
