"""How many samples a pass takes at a time, and on how many threads: measured on the spot, not guessed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

logger = logging.getLogger(__name__)

#: samples per pass that are tried, as long as a pass is not expected to take longer than SECONDS
SIZES = (16, 64, 256, 1024, 4096, 16384)
SECONDS = 0.25
#: timed calls of each, after one that is not timed; the fastest counts
CALLS = 2
#: a pass of FEW samples tells first whether the smallest size takes longer than SLOW seconds
FEW, SLOW = 4, 2.0
#: of the sizes whose rate is so near to the best one the smallest is taken: it needs less memory
NEAR = 0.97
#: fewer threads are taken where they are so much faster, but not fewer than FEWEST: a machine that is
#: busy for a moment must not leave the whole work on one
GAIN, FEWEST = 1.1, 2


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What is fastest here.

    Attributes:
        samples: samples per pass.
        threads: computing threads on the CPU.
        rate: samples per second then; 0 where nobody measured it.

    """

    samples: int
    threads: int
    rate: float = 0.0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Compute on so many threads within the block."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def find_pace(work: Callable[[int], object], device: torch.device) -> Pace:
    """Return what is fastest for work that may be cut into passes of any size.

    The result of such work depends on the size by rounding alone: a processor's kernels for more samples
    may sum in another order.

    Args:
        work: makes one pass with so many samples.
        device: where it computes.

    """
    threads = torch.get_num_threads()
    slow = _rate_of_slow(work, device)
    if slow:
        return Pace(samples=SIZES[0], threads=threads, rate=slow)
    rates: dict[int, float] = {}
    for size in SIZES:
        if rates and size > SECONDS * max(rates.values()):
            break
        try:
            rates[size] = _rate(work, size, device)
        except torch.OutOfMemoryError:
            break
    best = max(rates.values(), default=0.0)
    samples = min((size for size, rate in rates.items() if rate >= NEAR * best), default=SIZES[0])
    while device.type == "cpu" and threads // 2 >= FEWEST:
        with Pace(samples=samples, threads=threads // 2).kept():
            rate = _rate(work, samples, device)
        if rate < GAIN * best:
            break
        threads, best = threads // 2, rate
    logger.info("%d samples per pass on %d threads: %.0f a second", samples, threads, best)
    return Pace(samples=samples, threads=threads, rate=best)


def _rate_of_slow(work: Callable[[int], object], device: torch.device) -> float:
    """Return the samples per second of work so slow that no other size need be tried, or 0."""
    _timed(work, FEW, device)
    taken = _timed(work, FEW, device)
    if taken < FEW / SIZES[0] * SLOW:
        return 0.0
    logger.info("%d samples took %.1f s", FEW, taken)
    return FEW / taken


def _timed(work: Callable[[int], object], size: int, device: torch.device) -> float:
    """Return the seconds that one pass of `size` takes."""
    begun = time.perf_counter()
    work(size)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _rate(work: Callable[[int], object], size: int, device: torch.device) -> float:
    """Return the samples per second of passes of `size`."""
    taken = [_timed(work, size, device) for _ in range(1 + CALLS)]
    return size / max(min(taken[1:]), 1e-9)
