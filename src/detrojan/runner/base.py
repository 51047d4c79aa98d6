"""What an engine is, what becomes of each part of a piece of work, and which engines there are."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from detrojan import errors
from detrojan.catalog import classes
from detrojan.errors import DetrojanError, InterruptedRunError, OptionError
from detrojan.run import Run, name
from detrojan.words import plural

T = TypeVar("T")
R = TypeVar("R")

#: how often a part is begun before it is given up
TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one part.

    Attributes:
        place: which of the items, 0-based.
        value: what the job returned; None where there is an error.
        error: what the job raised, or that nobody could finish it; None where it is done.
        deaths: how each worker ended that had begun the part and did not finish it.
        lost: whether every worker that began it died.

    """

    place: int
    value: Any = None
    error: Exception | None = None
    deaths: tuple[str, ...] = ()
    lost: bool = False


class Engine(ABC):
    """Base of the engines: each does the parts of a piece of work somewhere.

    A file of this package that holds a subclass is all that a new engine needs.
    """

    #: what the command line calls it
    name: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def made(cls, workers: int | None, address: str | None) -> Self:
        """Return the engine with so many workers at an address; None for what is usual.

        Raises:
            OptionError: it takes no such thing.

        """

    @abstractmethod
    def outcomes(
        self,
        job: Callable[[Run, T], Any],
        items: Sequence[T],
        *,
        run: Run,
        title: str = "",
        memory: Sequence[int] = (),
    ) -> Iterator[Outcome]:
        """Yield what becomes of each item, as it becomes known; every item has one outcome.

        An error that the job raises is the item's own, and the others go on. A part whose worker dies is
        begun again by another worker, up to `TRIES` times in all; the last time nothing runs beside it.

        Args:
            job: as for `Run.map`.
            items: the parts.
            run: what surrounds them.
            title: what the progress shows.
            memory: bytes that each item's part needs, about; parts run side by side as far as the free
                memory goes. Empty where that is not known.

        Raises:
            InterruptedRunError: a part was stopped from outside.

        """

    def map(
        self, job: Callable[[Run, T], R], items: Sequence[T], *, run: Run, title: str = ""
    ) -> Iterator[R]:
        """Yield what `job` returns for each item, in their order, as `Run.map` says.

        Raises:
            DetrojanError: the first that a part raised; or every worker that began a part died.
            InterruptedRunError: a part was stopped.

        """
        known: dict[int, Any] = {}
        following = 0
        for outcome in self.outcomes(job, items, run=run, title=title):
            if outcome.error is not None:
                if isinstance(outcome.error, DetrojanError):
                    name(outcome.error, items[outcome.place], items)
                raise outcome.error
            known[outcome.place] = outcome.value
            while following in known:
                yield known.pop(following)
                following += 1


def engines() -> dict[str, type[Engine]]:
    """Return the engines by name."""
    return {kind.name: kind for kind in classes("detrojan.runner", Engine)}  # type: ignore[type-abstract]


def engine_named(engine: str, *, workers: int | None = None, address: str | None = None) -> Engine:
    """Return the engine that is called so.

    Args:
        engine: its name.
        workers: parts that are done at the same time, 1 or more; None for what is usual.
        address: of the cluster; None where there is none.

    Raises:
        OptionError: no such engine, or it does not take these.

    """
    known = engines()
    if engine not in known:
        raise OptionError(f"expected an engine out of {', '.join(known)}, got {engine!r}")
    if workers is not None and workers < 1:
        raise OptionError(f"expected 1 worker or more, got {workers}")
    return known[engine].made(workers, address)


def told(error: Exception) -> tuple[str, str, str]:
    """Return an error as texts, since not each of them can be sent: its kind, what it says, the trace."""
    return type(error).__name__, str(error), "".join(traceback.format_exception(error))


def rebuilt(kind: str, text: str, trace: str, item: object) -> Exception:
    """Return the error that `told` made texts of; one that is not ours becomes a RuntimeError."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, DetrojanError):
        error = known.__new__(known)
        error.args = (text,)
        return error
    unforeseen = RuntimeError(f"{item}: {kind}: {text}")
    unforeseen.add_note(trace)
    return unforeseen


def given_up(place: int, deaths: Sequence[str]) -> Outcome:
    """Return the outcome of a part that no worker finished."""
    tries = plural(len(deaths), "try", "tries")
    error = DetrojanError(f"given up after {tries}: {'; '.join(dict.fromkeys(deaths))}")
    return Outcome(place=place, error=error, deaths=tuple(deaths), lost=True)


def stopped(item: object) -> InterruptedRunError:
    """Return the error of a part that somebody stopped."""
    return InterruptedRunError(f"{item}: stopped")
