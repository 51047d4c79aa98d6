from __future__ import annotations

import math

import pytest
import torch

from detrojan.guards.betting import STAKES, Bets, rounds, spreads


def slow_wealth(numbers, boundary):
    """The mean wealth after each number, one bet after the other."""
    most, paths = len(numbers), []
    for stake in STAKES:
        wealth, path = 1.0, []
        for place, number in enumerate(numbers):
            fair = (most * boundary - sum(numbers[:place])) / (most - place)
            wealth = math.inf if fair < 0 else wealth * (1 + stake * (number / fair - 1))
            path.append(wealth)
        paths.append(path)
    return [sum(step) / len(STAKES) for step in zip(*paths, strict=True)]


def everything(bets, numbers):
    """Return whether each row is called above at any time before its end."""
    rows, ever = torch.arange(len(numbers)), torch.zeros(len(numbers), dtype=torch.bool)
    for place in range(numbers.shape[1] - 1):
        bets.add(rows, numbers[:, place : place + 1])
        ever |= bets.above
    return ever


def test_the_wealth_is_that_of_a_slow_reference():
    numbers = [0.3, 0.0, 0.9, 0.05, 0.4, 0.2]
    wanted = slow_wealth(numbers, 0.25)
    for place, wealth in enumerate(wanted[:-1]):
        for error, said in ((1 / (wealth * 0.999), True), (1 / (wealth * 1.001), False)):
            bets = Bets(0.25, torch.tensor([6]), min(error, 1.0))
            bets.add(torch.tensor([0]), torch.tensor([numbers[: place + 1]]))
            mean = sum(numbers[: place + 1]) / (place + 1)
            assert bool(bets.above) == (said and mean > 0.25 and wealth * 0.999 >= 1)


@pytest.mark.parametrize("low", [0.0, 0.19])
def test_a_mean_at_the_boundary_is_called_above_no_more_often_than_stated(low):
    chance, error, boundary = torch.Generator().manual_seed(1), 0.05, 0.2
    one = torch.full((50,), low, dtype=torch.float64)
    one[:5] += (50 * boundary - float(one.sum())) / 5 - 1e-9
    orders = torch.stack([torch.randperm(50, generator=chance) for _ in range(4000)])
    ever = everything(Bets(boundary, torch.full((4000,), 50), error), one[orders])
    # four standard deviations of a share of 5% of 4000
    assert float(ever.double().mean()) < error + 4 * math.sqrt(error * (1 - error) / 4000)


def test_a_high_mean_is_known_soon_and_a_used_up_sum_at_once():
    rows = torch.arange(2)
    bets = Bets(0.1, torch.tensor([50, 50]), 0.02)
    bets.add(rows, torch.tensor([[0.8, 0.7, 0.9], [0.1, 0.12, 0.09]]))
    assert bets.above.tolist() == [True, False]
    strict = Bets(0.1, torch.tensor([4, 4]), 1e-300)
    strict.add(rows, torch.tensor([[0.5], [0.39]]))
    strict.add(rows, torch.tensor([[0.0], [0.0]]))
    assert strict.above.tolist() == [True, False]  # 0.5 is more than 4 times 0.1


def test_at_the_end_counts_what_the_mean_is():
    bets = Bets(0.1, torch.tensor([2, 2, 3, 2]), 0.02)
    numbers = [[0.1, 0.1], [0.1, 0.11], [0.0, 0.0], [math.nan, 0.3]]
    bets.add(torch.arange(4), torch.tensor(numbers, dtype=torch.float64))
    assert bets.ended.tolist() == [True, True, False, True]
    assert bets.above.tolist() == [False, True, False, False]
    assert bets.means[:3].tolist() == pytest.approx([0.1, 0.105, 0.0])
    nothing = Bets(0.0, torch.tensor([3, 3]), 0.02)
    nothing.add(torch.arange(2), torch.tensor([[0.0, 0.0], [0.0, 0.001]], dtype=torch.float64))
    assert nothing.above.tolist() == [False, True]
    assert nothing.deficit(torch.ones(2)).tolist() == [-math.inf] * 2


def test_a_deficit_is_measured_in_spreads_of_the_logarithm():
    bets = Bets(0.1, torch.tensor([50]), 0.02)
    bets.add(torch.tensor([0]), torch.tensor([[0.01, 0.01]]))
    assert float(bets.deficit(torch.tensor([2.0]))) == pytest.approx(math.log(10) / 2)


def test_rounds_become_rarer_and_end_with_the_rows():
    assert rounds([50, 50])[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    assert rounds([7, 6]) == [1, 2, 3, 4, 5, 6, 7]
    assert rounds([1]) == [1]
    assert rounds([100])[-1] == 100


def test_spreads_shrink_to_nothing_with_the_last_number():
    numbers = torch.rand(200, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = spreads(numbers, [1, 5, 20])
    assert found[0] > found[1] > found[2] == 1e-6
    wanted = (numbers[:, 0].log() - numbers.mean(1).log()).square().mean().sqrt()
    assert found[0] == pytest.approx(float(wanted))
