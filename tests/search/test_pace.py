"""The fastest way is found, within its limits, and threads are put back."""

from __future__ import annotations

import time

import pytest
import torch

from detrojan.search import pace
from detrojan.search.pace import Pace, find_pace

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when the work says so."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("fixed", "each", "samples"),
    [
        (0.0, 1e-3, 16),  # nothing is gained by more: the smallest needs the least memory
        (0.01, 1e-5, 16384),  # calling costs as much as a thousand samples
        (0.01, 1e-4, 1024),  # 4096 would take longer than a quarter of a second
        (1.0, 1.0, 16),  # a pass of the smallest takes 17 seconds: no other is tried
    ],
)
def test_the_smallest_of_the_fastest_sizes_is_taken(clock, fixed, each, samples):
    def work(size):
        clock[0] += fixed + each * size

    assert find_pace(work, CPU).samples == samples


@pytest.mark.parametrize(("threads", "best", "taken"), [(8, 2, 2), (8, 4, 4), (2, 1, 2), (4, 4, 4)])
def test_fewer_threads_are_taken_where_they_are_faster_but_not_one(clock, threads, best, taken):
    def work(size):
        clock[0] += size * 1e-4 * (1 + abs(torch.get_num_threads() - best))

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert find_pace(work, CPU).threads == taken
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_first_call_is_not_timed_and_one_slow_call_does_not_count(clock):
    calls = []

    def work(size):
        if size == pace.FEW:
            return
        calls.append(size)
        slow = len(calls) % (1 + pace.CALLS) in {1, 2}
        clock[0] += size * (1.0 if slow else 1e-5)

    assert find_pace(work, CPU).samples == 16
    assert calls[: 3 * 4] == [16] * 3 + [64] * 3 + [256] * 3 + [1024] * 3


def test_work_of_seconds_is_measured_with_few_samples(clock):
    calls = []

    def work(size):
        calls.append(size)
        clock[0] += 9.0 if len(calls) == 1 else 0.2 * size

    assert find_pace(work, CPU).rate == pytest.approx(5.0)
    assert calls == [pace.FEW] * 2


def test_where_memory_ends_the_sizes_end(clock):
    def work(size):
        if size > 256:
            raise torch.OutOfMemoryError
        clock[0] += 0.01 + size * 1e-6

    assert find_pace(work, CPU).samples == 256


def test_threads_are_put_back_after_an_error():
    before = torch.get_num_threads()
    seen = []

    def fail():
        with Pace(samples=16, threads=before + 1).kept():
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [*seen, torch.get_num_threads()] == [before + 1, before]
