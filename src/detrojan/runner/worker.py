"""What runs in a process of its own: it takes one part after the other out of a pipe, and answers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import torch

from detrojan.machine import tune
from detrojan.run import Run, Task
from detrojan.runner.base import told

#: seconds between two notes on how far a part is
EVERY = 0.5
#: the kinds of what a worker says: how far a part is, and the three ways in which it ends
NOTE, DONE, FAILED, STOPPED = "note", "done", "failed", "stopped"

Say = Callable[[str], None]


def serve(pipe: Connection, job: Callable[[Run, Any], Any], run: Run, threads: int, tuned: bool) -> None:
    """Do the parts that come through a pipe, until it is closed; end with the process that started this one.

    Args:
        pipe: takes (place, item), gives (kind, place, ...).
        job: what is done.
        run: what surrounds it.
        threads: computing threads.
        tuned: whether the first process is set up for many small tensors.

    """
    if _ready():
        return
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if tuned:
        tune(threads)
    else:
        torch.set_num_threads(threads)
    with suppress(EOFError, OSError):  # nobody listens any more
        while (part := pipe.recv()) is not None:
            place, item = part
            told_to = replace(run, progress=Notes(lambda text, place=place: pipe.send((NOTE, place, text))))  # type: ignore[misc]
            kind, *rest = done(job, told_to, item)
            try:
                pipe.send((kind, place, *rest))
            except (OSError, EOFError):
                raise
            except Exception as error:  # noqa: BLE001 - what cannot be sent is the part's own error
                pipe.send((FAILED, place, *told(error)))


@contextmanager
def held_back() -> Iterator[None]:
    """Hold Ctrl-C back for the body, and for processes that it starts until they are ready."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ready() -> bool:
    """Let Ctrl-C through for the parts, not for the waiting; return whether it came already."""
    came = hasattr(signal, "sigpending") and signal.SIGINT in signal.sigpending()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return came


def _end_with_parent() -> None:
    """End this process with the one that started it, however that ends."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def done(job: Callable[[Run, Any], Any], run: Run, item: Any) -> tuple[Any, ...]:
    """Do one part; errors come back as texts, since not each of them can be sent."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not disturb the saving
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGINT, interrupt)
        try:
            return DONE, job(run, item)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        return (STOPPED,)
    except Exception as error:  # noqa: BLE001 - it is raised again where it was asked for
        return FAILED, *told(error)


class Notes:
    """A progress that says now and then in a few words how far the work is.

    Args:
        say: takes the words; where nobody listens any more it may raise an OSError.

    """

    def __init__(self, say: Say) -> None:
        self._say, self._last = say, -EVERY

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        """Follow a piece of work of `total` units (None: unknown)."""
        yield _Noted(title, total, self._now_and_then)

    def _now_and_then(self, text: str) -> None:
        moment = time.monotonic()
        if moment - self._last >= EVERY:
            self._last = moment
            with suppress(OSError):
                self._say(text)


class _Noted:
    def __init__(self, title: str, total: float | None, say: Say) -> None:
        self._title, self._total, self._say, self._done = title, total, say, 0.0

    def advance(self, amount: float = 1, *, note: str | None = None) -> None:
        self._done += amount
        far = f" {self._done / self._total:.0%}" if self._total else ""
        self._say(f"{self._title}{far}")
