"""Does the parts of a piece of work in several processes on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Self, TypeVar

import torch

from detrojan.errors import OptionError
from detrojan.machine import cores, free_memory, is_tuned
from detrojan.run import InTurn, Run, SilentProgress, Task
from detrojan.runner.base import TRIES, Engine, Outcome, given_up, rebuilt, stopped
from detrojan.runner.schedule import Schedule
from detrojan.runner.worker import DONE, FAILED, NOTE, STOPPED, held_back, serve

T = TypeVar("T")
R = TypeVar("R")

#: seconds that a process is given to save its state when the work is stopped
GRACE = 5.0
#: share of the free memory that the parts may plan with
SHARE = 0.8


@dataclass(frozen=True)
class Processes(Engine):
    """Does the parts in so many processes at most, each with its share of the computing threads.

    Each process starts from nothing, so a script that uses this keeps its own work under
    ``if __name__ == "__main__"``. Sums over many threads may be rounded in another order: results are
    the same to the last bit where each process computes with as many threads as one alone.

    A process that dies is replaced, and its part is begun again.

    Args:
        workers: processes at the same time; 1 or more.
        tries: how often a part is begun before it is given up; 1 or more.

    """

    workers: int
    tries: int = TRIES

    name: ClassVar[str] = "processes"

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        if self.workers < 1:
            raise OptionError(f"expected 1 process or more, got {self.workers}")
        if self.tries < 1:
            raise OptionError(f"expected 1 try or more, got {self.tries}")

    @classmethod
    def made(cls, workers: int | None, address: str | None) -> Self:
        """Return the engine; usually with a process for each core.

        Raises:
            OptionError: an address.

        """
        if address is not None:
            raise OptionError(f"expected no address for processes on this machine, got {address}")
        return cls(workers or cores())

    def map(
        self, job: Callable[[Run, T], R], items: Sequence[T], *, run: Run, title: str = ""
    ) -> Iterator[R]:
        """Yield what `job` returns for each item, as `Run.map` says; one item needs no other process."""
        if min(self.workers, len(items)) < 2:
            return InTurn().map(job, items, run=run, title=title)
        return super().map(job, items, run=run, title=title)

    def outcomes(
        self,
        job: Callable[[Run, T], Any],
        items: Sequence[T],
        *,
        run: Run,
        title: str = "",
        memory: Sequence[int] = (),
    ) -> Iterator[Outcome]:
        """Yield what becomes of each item, as it becomes known.

        Raises:
            InterruptedRunError: a part was stopped from outside.

        """
        count = min(self.workers, len(items))
        limit = int(SHARE * free_memory()) if memory else None
        schedule = Schedule(len(items), memory, limit, self.tries)
        there = replace(run, progress=SilentProgress(), runner=InTurn())
        threads = max(1, torch.get_num_threads() // max(count, 1))
        pool = _Pool(count, partial(_started, job, there, threads), items, schedule)
        try:
            with run.progress.task(title or "parts", len(items)) as task:
                while schedule.open:
                    yield from pool.turn(task)
            pool.let_go()
        finally:
            pool.stop()


@dataclass
class _Worker:
    """A process, our end of its pipe, and which part it does."""

    process: BaseProcess
    pipe: Connection
    place: int | None = None

    def end(self) -> str:
        """Wait for a process that has ended or is about to, and say how it ended."""
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process ended with code {code}"
        with suppress(ValueError):
            signalled = signal.Signals(-code).name
            kill = ", as the system does where memory is short" if signalled == "SIGKILL" else ""
            return f"its process was ended by {signalled}{kill}"
        return f"its process was ended by signal {-code}"


def _started(job: Callable[[Run, Any], Any], run: Run, threads: int) -> _Worker:
    context = torch.multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, job, run, threads, is_tuned()), daemon=True)
    with held_back():
        process.start()
    theirs.close()
    return _Worker(process, ours)


class _Pool:
    """The processes, and what they do."""

    def __init__(
        self, count: int, start: Callable[[], _Worker], items: Sequence[Any], schedule: Schedule
    ) -> None:
        self._count, self._start = count, start
        self._items, self._schedule = items, schedule
        self._workers: list[_Worker] = []
        self._notes: dict[int, str] = {}

    def turn(self, task: Task) -> Iterator[Outcome]:
        """Give parts to whoever has none, wait for somebody to say something, and yield what has ended."""
        self._deal()
        busy = [worker for worker in self._workers if worker.place is not None]
        ready = wait([source for one in busy for source in (one.pipe, one.process.sentinel)])
        for worker in busy:
            if worker.pipe in ready or worker.process.sentinel in ready:
                for outcome in self._heard(worker):
                    task.advance(1, note=self._told())
                    yield outcome
        task.advance(0, note=self._told())

    def _deal(self) -> None:
        for worker in [one for one in self._workers if one.place is None and not one.process.is_alive()]:
            self._workers.remove(worker)
            worker.end()
        while any(one.place is None for one in self._workers) or len(self._workers) < self._count:
            place = self._schedule.begin()
            if place is None:
                return
            idle = [one for one in self._workers if one.place is None]
            if not idle:
                idle = [self._start()]
                self._workers += idle
            idle[0].place = place
            with suppress(OSError):  # it has died, which is noticed in a moment
                idle[0].pipe.send((place, self._items[place]))

    def _heard(self, worker: _Worker) -> Iterator[Outcome]:
        """Yield what has become of a worker's part, if anything has."""
        place = worker.place
        assert place is not None
        item = self._items[place]
        try:
            kind, _, *said = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._died(worker, place)
            return
        except Exception as error:  # noqa: BLE001 - what was sent cannot be made again here
            kind, said = FAILED, [type(error).__name__, str(error), ""]
        if kind == NOTE:
            self._notes[place] = f"{item}: {said[0]}"
            return
        worker.place = None
        self._notes.pop(place, None)
        deaths = self._schedule.end(place)
        if kind == STOPPED:
            raise stopped(item)
        if kind == DONE:
            yield Outcome(place=place, value=said[0], deaths=deaths)
        else:
            name, text, trace = said
            yield Outcome(place=place, error=rebuilt(name, text, trace, item), deaths=deaths)

    def _died(self, worker: _Worker, place: int) -> Iterator[Outcome]:
        self._workers.remove(worker)
        self._notes.pop(place, None)
        if self._schedule.die(place, worker.end()):
            return
        yield given_up(place, self._schedule.end(place))

    def _told(self) -> str:
        return "; ".join(self._notes[place] for place in sorted(self._notes))

    def let_go(self) -> None:
        """Let processes end that have nothing more to do."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(GRACE)

    def stop(self) -> None:
        """Ask those that still run to save their state, and then end them."""
        running = [worker for worker in self._workers if worker.process.is_alive()]
        for worker in running:
            worker.pipe.close()
            with suppress(OSError, TypeError):  # it has ended
                os.kill(worker.process.pid, signal.SIGINT)  # type: ignore[arg-type]
        for worker in running:
            worker.process.join(GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
