"""Does the parts of a piece of work in several processes on this machine."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

from detrojan import errors
from detrojan.errors import DetrojanError, InterruptedRunError, OptionError
from detrojan.machine import is_tuned, tune
from detrojan.run import InTurn, Run, SilentProgress, name

T = TypeVar("T")
R = TypeVar("R")

#: seconds that a process is given to save its state when the work is stopped
GRACE = 5.0


@dataclass(frozen=True)
class Processes:
    """Does the parts in so many processes at most, each with its share of the computing threads.

    Each process starts from nothing, so a script that uses this keeps its own work under
    ``if __name__ == "__main__"``. Sums over many threads may be rounded in another order: results are
    the same to the last bit where each process computes with as many threads as one alone.

    Args:
        workers: processes at the same time; 1 or more.

    """

    workers: int

    def __post_init__(self) -> None:
        """Refuse a number of processes that cannot be."""
        if self.workers < 1:
            raise OptionError(f"expected 1 process or more, got {self.workers}")

    def map(
        self, job: Callable[[Run, T], R], items: Sequence[T], *, run: Run, title: str = ""
    ) -> Iterator[R]:
        """Yield what `job` returns for each item, as `Run.map` says.

        Raises:
            DetrojanError: the first that a part raised; or a process ended before its part was done.
            InterruptedRunError: a part was stopped.

        """
        count = min(self.workers, len(items))
        if count < 2:
            yield from InTurn().map(job, items, run=run, title=title)
            return
        there = replace(run, progress=SilentProgress(), runner=InTurn())
        share = max(1, torch.get_num_threads() // count)
        others = set(active_children())
        executor = ProcessPoolExecutor(
            count,
            mp_context=torch.multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(job, there, share, is_tuned()),
        )
        whole = False
        try:
            futures = [executor.submit(_part, item) for item in items]
            with run.progress.task(title or "parts", len(items)) as task:
                for place, done in _in_order(futures):
                    task.advance(done)
                    if place is not None:
                        yield _value(futures[place], items[place], items)
            whole = True
        except BrokenProcessPool as error:
            raise DetrojanError(
                f"one of {count} processes ended before its part was done; for so many the memory may not do"
            ) from error
        finally:
            _end(executor, [] if whole else [one for one in active_children() if one not in others])


def _in_order(futures: Sequence[Future[Any]]) -> Iterator[tuple[int | None, int]]:
    """Yield the places of finished parts in their order, each with how many more have ended; None: just that.

    The place of a failed part comes at once, before those that are not done.
    """
    pending, following = set(futures), 0
    while following < len(futures):
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield None, len(done)
        failed = [place for place, one in enumerate(futures) if one in done and not _is_good(one)]
        yield from ((place, 0) for place in failed)
        while following < len(futures) and futures[following].done():
            yield following, 0
            following += 1


def _is_good(future: Future[Any]) -> bool:
    return future.exception() is None and future.result()[0] == "done"


def _value(future: Future[Any], item: object, items: Sequence[object]) -> Any:
    """Return what a part came to, or raise what it raised."""
    outcome = future.result()
    if outcome[0] == "done":
        return outcome[1]
    if outcome[0] == "stopped":
        raise InterruptedRunError(f"{item}: stopped")
    _, kind, text, trace = outcome
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, DetrojanError):
        error = known.__new__(known)
        error.args = (text,)
        name(error, item, items)
        raise error
    unforeseen = RuntimeError(f"{item}: {kind}: {text}")
    unforeseen.add_note(trace)
    raise unforeseen


def _end(executor: ProcessPoolExecutor, running: Sequence[BaseProcess]) -> None:
    """Let the processes go; those that still run are asked to save their state, and then ended."""
    executor.shutdown(wait=not running, cancel_futures=True)
    for process in running:
        with suppress(OSError, TypeError):  # it has ended
            os.kill(process.pid, signal.SIGINT)  # type: ignore[arg-type]
    for process in running:
        process.join(GRACE)
        if process.is_alive():
            process.terminate()
            process.join()


#: what a process was started for: the job, its run
_work: list[Any] = []


def _begin(job: Callable[[Run, Any], Any], run: Run, threads: int, tuned: bool) -> None:
    """Set a new process up as the one that started it; Ctrl-C is for the parts, not for the waiting."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if tuned:
        tune(threads)
    else:
        torch.set_num_threads(threads)
    _work[:] = [job, run]


def _part(item: Any) -> tuple[Any, ...]:
    """Do one part; errors come back as texts, since not each of them can be pickled."""
    job, run = _work
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return "done", job(run, item)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        return ("stopped",)
    except Exception as error:  # noqa: BLE001 - it is raised again where it was asked for
        text = "".join(traceback.format_exception(error))
        return "failed", type(error).__name__, str(error), text
