"""Puts the images of several requests together, so that the network is asked once for all of them.

The queue is bounded. What does not fit is refused at once, with the time after which to ask again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import torch

from detrojan.errors import RefusedError
from detrojan.serve.judged import Judged
from detrojan.serve.refusals import refused

#: weight of the newest batch in the mean time that an image takes
_NEWEST = 0.2
#: nobody is sent away for longer, in seconds
_LONGEST = 60


@dataclass(kw_only=True, eq=False)
class _Waiting:
    images: torch.Tensor
    answer: asyncio.Future[Judged]
    since: float


class Batcher:
    """Answers requests in batches, in one thread of its own.

    Args:
        judge: what answers images (N, C, H, W).
        most: images in a batch; a larger request is asked by itself.
        delay: seconds that the first image of a batch waits for others.
        waiting: images in the queue; a request beyond is refused.
        seen: is given the images and the seconds of each batch.

    """

    def __init__(
        self,
        judge: Callable[[torch.Tensor], Judged],
        *,
        most: int,
        delay: float,
        waiting: int,
        seen: Callable[[int, float], None] = lambda _images, _seconds: None,
    ) -> None:
        self.judge, self.most, self.delay, self.limit, self.seen = judge, most, delay, waiting, seen
        #: images that wait
        self.waiting = 0
        #: seconds that an image takes, of late
        self.pace = 0.0
        self._queue = deque[_Waiting]()
        self._more, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._draining = False
        self._thread = ThreadPoolExecutor(1, "judge")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer; within a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def ask(self, images: torch.Tensor, timeout: float) -> Judged:  # noqa: ASYNC109 - a waiting request stays in the queue, it is not merely awaited
        """Return the answers to images (N, C, H, W).

        Raises:
            RefusedError: the queue is full, or the answer has not come after `timeout` seconds.

        """
        if self._queue and self.waiting + len(images) > self.limit:
            raise self._busy(f"{self.waiting:,} images are waiting, {self.limit:,} are the most")
        answer = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(images=images, answer=answer, since=time.monotonic()))
        self.waiting += len(images)
        self._idle.clear()
        self._more.set()
        try:
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            raise self._busy(f"no answer within {timeout:g} s") from None

    def _busy(self, text: str) -> RefusedError:
        after = min(_LONGEST, max(1, math.ceil(self.waiting * self.pace)))
        return refused("busy", f"{text}; ask again in {after} s", {"retry-after": str(after)})

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._more.wait()
            batch = await self._taken() if self._queue else []
            if batch:
                images = torch.cat([one.images for one in batch])
                started = time.monotonic()
                try:
                    judged = await loop.run_in_executor(self._thread, self.judge, images)
                except Exception as error:  # noqa: BLE001 - whoever waits is given it
                    for one in batch:
                        if not one.answer.done():
                            one.answer.set_exception(error)
                else:
                    self._hand_out(batch, judged)
                    self._note(len(images), time.monotonic() - started)
            if self._queue:
                self._more.set()
            else:
                self._more.clear()
                self._idle.set()

    async def _taken(self) -> list[_Waiting]:
        """Wait for more images until the batch is full or its first image has waited long enough."""
        due = self._queue[0].since + self.delay
        while self.waiting < self.most and not self._draining and (left := due - time.monotonic()) > 0:
            self._more.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), left)
        batch, count = list[_Waiting](), 0
        while self._queue and (not batch or count + len(self._queue[0].images) <= self.most):
            one = self._queue.popleft()
            self.waiting -= len(one.images)
            if not one.answer.done():  # who has gone is not answered
                batch.append(one)
                count += len(one.images)
        return batch

    @staticmethod
    def _hand_out(batch: list[_Waiting], judged: Judged) -> None:
        start = 0
        for one in batch:
            stop = start + len(one.images)
            if not one.answer.done():
                one.answer.set_result(judged.part(start, stop))
            start = stop

    def _note(self, images: int, seconds: float) -> None:
        pace = seconds / images
        self.pace = pace if not self.pace else self.pace + _NEWEST * (pace - self.pace)
        self.seen(images, seconds)

    async def drain(self) -> None:
        """Answer all that wait, then end."""
        self._draining = True
        self._more.set()
        if self._task is not None:
            if not self._task.done():
                await self._idle.wait()
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown()
