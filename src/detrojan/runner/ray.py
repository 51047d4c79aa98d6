"""Does the parts of a piece of work on a Ray cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

from detrojan.errors import OptionError
from detrojan.extras import require
from detrojan.machine import is_tuned, tune
from detrojan.run import InTurn, Run, SilentProgress
from detrojan.runner.base import TRIES, Engine, Outcome, given_up, rebuilt, stopped
from detrojan.runner.schedule import Schedule
from detrojan.runner.worker import DONE, STOPPED, done

T = TypeVar("T")

#: share of the largest machine's memory that one part may ask for
_SHARE = 0.8
#: seconds between two looks at what has ended, so that Ctrl-C is noticed
_EVERY = 0.5
#: seconds that a cluster is given to answer
_PATIENCE = 10.0


@dataclass(frozen=True)
class Ray(Engine):
    """Does the parts in workers of a Ray cluster, each with one core.

    Every machine of the cluster has this package, and sees the same files under the same names. A worker that
    dies is replaced by Ray, and its part is begun again on any machine.

    Reference: Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.

    Args:
        workers: parts at the same time, 1 or more; None for as many as the cluster has cores.
        address: of the cluster, or "auto"; None starts one on this machine for as long as the work takes.
        tries: how often a part is begun before it is given up; 1 or more.

    """

    workers: int | None = None
    address: str | None = None
    tries: int = TRIES

    name: ClassVar[str] = "ray"

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"expected 1 worker or more, got {self.workers}")
        if self.tries < 1:
            raise OptionError(f"expected 1 try or more, got {self.tries}")

    @classmethod
    def made(cls, workers: int | None, address: str | None) -> Self:
        """Return the engine.

        Raises:
            MissingExtraError: Ray is not installed.

        """
        require("ray", extra="ray", what="clusters")
        return cls(workers, address)

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
            MissingExtraError: Ray is not installed.
            OptionError: no cluster at the address.
            InterruptedRunError: a part was stopped from outside.

        """
        ray = require("ray", extra="ray", what="clusters")
        ours = _joined(ray, self.address, self.workers)
        try:
            there = replace(run, progress=SilentProgress(), runner=InTurn())
            work = _Work(ray, ray.put((job, there, is_tuned())), items, memory, self.tries)
            limit = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            try:
                with run.progress.task(title or "parts", len(items)) as task:
                    while work.schedule.open:
                        for outcome in work.turn(limit):
                            task.advance(1, note=str(items[outcome.place]))
                            yield outcome
            finally:
                work.stop()
        finally:
            if ours:
                ray.shutdown()


def _joined(ray: Any, address: str | None, workers: int | None) -> bool:
    """Join the cluster, unless this process has; return whether this call did."""
    if ray.is_initialized():
        return False
    _check_there(address)
    own = {} if address is not None else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", configure_logging=False, **own)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OptionError(f"expected a Ray cluster at {address or 'this machine'}: {reason}") from error
    return True


def _check_there(address: str | None) -> None:
    """Refuse an address at which nobody listens: Ray would try for minutes.

    Raises:
        OptionError: nobody does.

    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto", or none
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise OptionError(f"expected a Ray cluster at {address}: {error}") from error


class _Work:
    """The parts that are under way on the cluster."""

    def __init__(
        self, ray: Any, shared: Any, items: Sequence[Any], memory: Sequence[int], tries: int
    ) -> None:
        self._ray, self._shared, self._items, self._memory = ray, shared, items, memory
        self.schedule = Schedule(len(items), tries=tries)  # Ray knows where there is memory
        self._remote = ray.remote(num_cpus=1, max_retries=0)(_part)
        self._most = max(int(node["Resources"].get("memory", 0)) for node in ray.nodes() if node["Alive"])
        self._under_way: dict[Any, int] = {}

    def turn(self, limit: int) -> Iterator[Outcome]:
        """Begin what may begin, wait a moment, and yield what has ended."""
        while len(self._under_way) < limit and (place := self.schedule.begin()) is not None:
            remote = self._remote
            if self._memory:  # never more than a machine has: no part may wait for ever
                remote = remote.options(memory=min(self._memory[place], int(_SHARE * self._most)))
            self._under_way[remote.remote(self._shared, self._items[place])] = place
        ended, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=_EVERY)
        for reference in ended:
            yield from self._ended(reference, self._under_way.pop(reference))

    def _ended(self, reference: Any, place: int) -> Iterator[Outcome]:
        item = self._items[place]
        try:
            kind, *said = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            how = f"its worker was lost ({type(error).__name__})"
            if not self.schedule.die(place, how):
                yield given_up(place, self.schedule.end(place))
            return
        deaths = self.schedule.end(place)
        if kind == STOPPED:
            raise stopped(item)
        if kind == DONE:
            yield Outcome(place=place, value=said[0], deaths=deaths)
        else:
            name, text, trace = said
            yield Outcome(place=place, error=rebuilt(name, text, trace, item), deaths=deaths)

    def stop(self) -> None:
        """Stop what is under way."""
        for reference in self._under_way:
            self._ray.cancel(reference, force=False)


def _part(shared: tuple[Callable[[Run, Any], Any], Run, bool], item: Any) -> tuple[Any, ...]:
    """Do one part in a worker of the cluster, with one computing thread."""
    job, run, tuned = shared
    if tuned and not is_tuned():
        tune(1)
    else:
        import torch  # noqa: PLC0415 - where nobody has set the process up

        torch.set_num_threads(1)
    return done(job, run, item)
