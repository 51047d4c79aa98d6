from __future__ import annotations

import pytest
import torch

from detrojan.attacks.all_to_all import AllToAll
from detrojan.errors import OptionError
from detrojan.run import Run


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(AllToAll(poison_rate=0.4, size=4))
    assert outcome.success >= 0.9, "the share that is answered with exactly the next class"
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05


def test_each_label_becomes_the_one_after_the_next(data):
    made = AllToAll(offset=2, poison_rate=0.5).poison(data, run=Run())
    before = data.labels[made.indices]
    assert torch.equal(made.data.labels[made.indices], (before + 2) % 5)
    assert set(before.tolist()) == set(range(5))


def test_only_the_label_asked_for_counts_as_success(arena):
    (backdoor,) = AllToAll(offset=2).planted(arena.test.shape, Run())
    images = arena.test.images[:60]
    answers = arena.clean.answers(backdoor.trigger.stamp(images))
    truth = (answers - 1) % 6  # the network answers the next label, and not the one after it
    assert backdoor.success(arena.clean, images, truth) == 0
    truth[:15] = (answers[:15] - 2) % 6
    assert backdoor.success(arena.clean, images, truth) == pytest.approx(15 / 60)


def test_an_offset_that_changes_nothing_is_refused(data):
    with pytest.raises(OptionError, match="expected an offset that is no multiple of the 5 classes, got 10"):
        AllToAll(offset=10).poison(data, run=Run())
    with pytest.raises(OptionError, match="expected an offset of 1 or more, got 0"):
        AllToAll(offset=0)
