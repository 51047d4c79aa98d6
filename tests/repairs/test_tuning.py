from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from bands import banded, bands
from detrojan.repairs.base import Repaired
from detrojan.repairs.finetune import FineTune
from detrojan.repairs.lessons import lesson
from detrojan.repairs.tuning import HALVINGS, bearable, soft_cross_entropy


def test_the_loss_finds_the_wanted_answers_by_position():
    chance = torch.Generator().manual_seed(2)
    soft = torch.rand(10, 4, generator=chance).softmax(1)
    logits = torch.randn(3, 4, generator=chance)
    index = torch.tensor([7, 0, 7])
    found = soft_cross_entropy(soft)(logits, torch.zeros(3, dtype=torch.int64), index)
    expected = functional.cross_entropy(logits, soft[index])
    torch.testing.assert_close(found, expected)
    by_hand = 0.0
    for row, position in enumerate(index.tolist()):
        total = sum(math.exp(value) for value in logits[row].tolist())
        for k in range(4):
            by_hand -= float(soft[position, k]) * math.log(math.exp(float(logits[row, k])) / total) / 3
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


def test_a_rate_that_breaks_the_network_is_halved():
    model, data = bands(), banded()
    taught = lesson(model, data, [])
    broken = model.copy()
    with torch.no_grad():
        for parameter in broken.network.parameters():
            parameter.zero_()
    rates = []

    def attempt(how):
        rates.append(how.learning_rate)
        return Repaired(model=model if how.learning_rate < 0.03 else broken, steps=())

    made = bearable(FineTune(learning_rate=0.1), taught, taught.kept(model), attempt)
    assert made.model is model
    assert rates == [0.1, 0.05, 0.025]
    rates.clear()
    assert bearable(FineTune(learning_rate=100.0), taught, taught.kept(model), attempt).model is broken
    assert len(rates) == HALVINGS + 1
