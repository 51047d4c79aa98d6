from __future__ import annotations

import pytest
import torch

from detrojan.metrics.chance import by_chance, chance_warning


def drawn(count: int, seed: int, classes: int = 10) -> torch.Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))


def test_chance_knows_the_shares_of_the_classes():
    answers, labels = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 2])
    assert by_chance(answers, labels) == pytest.approx(0.75 * 0.5 + 0.25 * 0.25)


def test_guesses_and_another_order_of_classes_are_warned_of():
    labels = drawn(400, 1)
    for answers in (drawn(400, 2), (labels + 1) % 10, torch.full((400,), 3)):
        (warning,) = chance_warning(answers, labels)
        share = float((answers == labels).double().mean())
        assert warning.startswith(f"accuracy at chance level: {share:.1%} of 400 images")
        assert "another order" in warning


def test_what_is_better_than_chance_is_not():
    labels = drawn(400, 1)
    answers = torch.where(torch.arange(400) % 4 == 0, labels, drawn(400, 2))
    assert chance_warning(answers, labels) == []
    assert chance_warning(labels, labels) == []


def test_nothing_is_said_where_nothing_can_be_told():
    assert chance_warning(drawn(19, 2), drawn(19, 1)) == [], "too few images"
    one = torch.full((200,), 4)
    assert chance_warning(one, one) == [], "one class only, and right"


def test_guesses_are_seldom_taken_for_more():
    said = [bool(chance_warning(drawn(200, seed), drawn(200, seed + 5000))) for seed in range(300)]
    assert sum(said) >= 290
