"""Requests are put together, none is lost, and what does not fit is sent away at once."""

import asyncio
import threading
import time

import pytest
import torch

from detrojan.errors import RefusedError
from detrojan.serve.batching import Batcher
from detrojan.serve.judged import Judged


def echo(images):
    """Answer each image with its own first pixel as its score."""
    return Judged(
        probabilities=torch.ones(len(images), 2) / 2,
        scores=images[:, 0, 0, 0].double(),
        rejected=torch.zeros(len(images), dtype=torch.bool),
    )


def image(*values):
    return torch.tensor(values).view(-1, 1, 1, 1)


def run(work, chosen=echo, **settings):
    """Run a coroutine with a batcher; return what it returns, and the sizes of the batches."""
    sizes = []

    def judge(images):
        sizes.append(len(images))
        return chosen(images)

    async def whole():
        asked = {"most": 8, "delay": 0.05, "waiting": 16} | settings
        batcher = Batcher(judge, **asked)
        batcher.start()
        try:
            return await work(batcher)
        finally:
            await asyncio.wait_for(batcher.drain(), 10)

    return asyncio.run(whole()), sizes


def test_each_gets_its_own_answer_out_of_few_batches():
    async def work(batcher):
        return await asyncio.gather(*(batcher.ask(image(n, n + 0.5), 5) for n in range(8)))

    answers, sizes = run(work)
    assert [answer.scores.tolist() for answer in answers] == [[n, n + 0.5] for n in range(8)]
    assert sizes == [8, 8]


def test_one_alone_waits_no_longer_than_the_delay():
    async def work(batcher):
        began = time.monotonic()
        await batcher.ask(image(1.0), 5)
        return time.monotonic() - began

    seconds, sizes = run(work)
    assert 0.04 < seconds < 2
    assert sizes == [1]


def test_a_request_larger_than_a_batch_is_asked_by_itself():
    async def work(batcher):
        return await asyncio.gather(batcher.ask(image(*range(12)), 5), batcher.ask(image(99.0), 5))

    answers, sizes = run(work)
    assert answers[0].scores.tolist() == list(range(12))
    assert answers[1].scores.tolist() == [99.0]
    assert sizes == [12, 1]


def test_a_full_queue_refuses_at_once_and_answers_again_later():
    release = threading.Event()

    def slow(images):
        release.wait(10)
        return echo(images)

    async def work(batcher):
        first = asyncio.create_task(batcher.ask(image(0.0), 20))
        await asyncio.sleep(0.2)  # it is being judged; the queue is empty
        waiting = [asyncio.create_task(batcher.ask(image(*range(8)), 20)) for _ in range(2)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        with pytest.raises(
            RefusedError, match="16 images are waiting, 16 are the most; ask again in 1 s"
        ) as caught:
            await batcher.ask(image(1.0), 20)
        assert time.monotonic() - began < 0.5
        assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "1"})
        release.set()
        await asyncio.gather(first, *waiting)
        return await batcher.ask(image(7.0), 20)

    answer, sizes = run(work, slow)
    assert answer.scores.tolist() == [7.0]
    assert sizes == [1, 8, 8, 1]


def test_who_waits_too_long_is_told_and_is_not_judged():
    release = threading.Event()

    def slow(images):
        release.wait(10)
        return echo(images)

    async def work(batcher):
        first = asyncio.create_task(batcher.ask(image(0.0), 20))
        await asyncio.sleep(0.2)
        with pytest.raises(RefusedError, match=r"no answer within 0\.1 s"):
            await batcher.ask(image(1.0), 0.1)
        release.set()
        await first

    _, sizes = run(work, slow)
    assert sizes == [1]


def test_draining_answers_all_that_wait():
    async def work(batcher):
        asked = [asyncio.create_task(batcher.ask(image(float(n)), 20)) for n in range(16)]
        await asyncio.sleep(0)
        await batcher.drain()
        return await asyncio.gather(*asked)

    answers, _ = run(work, delay=5.0)
    assert [float(answer.scores) for answer in answers] == list(range(16))


def test_a_fault_reaches_who_asked_and_nobody_after():
    faults = [RuntimeError("no memory")]

    def judge(images):
        if faults:
            raise faults.pop()
        return echo(images)

    async def work(batcher):
        with pytest.raises(RuntimeError, match="no memory"):
            await batcher.ask(image(1.0), 5)
        return await batcher.ask(image(2.0), 5)

    async def whole():
        batcher = Batcher(judge, most=4, delay=0, waiting=4)
        batcher.start()
        answer = await work(batcher)
        await batcher.drain()
        return answer

    assert asyncio.run(whole()).scores.tolist() == [2.0]
