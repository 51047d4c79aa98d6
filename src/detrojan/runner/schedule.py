"""Which part is begun next, and what becomes of one whose worker died."""

from __future__ import annotations

from collections.abc import Sequence

from detrojan.runner.base import TRIES


class Schedule:
    """The parts that wait and that run. They begin in their order, as far as the memory goes.

    Args:
        count: how many parts there are.
        memory: bytes that each needs; empty where that is not known.
        limit: bytes for all that run at the same time; None for no limit.
        tries: how often a part is begun before it is given up; 1 or more.

    """

    def __init__(
        self, count: int, memory: Sequence[int] = (), limit: int | None = None, tries: int = TRIES
    ) -> None:
        self._waiting = list(range(count))
        self._running: set[int] = set()
        self._memory, self._limit, self._tries = list(memory), limit, tries
        self._deaths: dict[int, list[str]] = {}

    @property
    def open(self) -> int:
        """How many parts wait or run."""
        return len(self._waiting) + len(self._running)

    def begin(self) -> int | None:
        """Return the place of a part that may begin now, which counts as running; None where none may.

        One part may always run. A part that has its last try ahead runs alone: its worker may have died
        for want of memory.
        """
        if any(self._alone(place) for place in self._running):
            return None
        for place in self._waiting:
            if not self._running or (not self._alone(place) and self._fits(place)):
                self._waiting.remove(place)
                self._running.add(place)
                return place
        return None

    def end(self, place: int) -> tuple[str, ...]:
        """Take note that a part has an outcome; return how its earlier workers died."""
        self._running.discard(place)
        return tuple(self._deaths.get(place, ()))

    def die(self, place: int, how: str) -> bool:
        """Take note that a part's worker died; return whether the part is begun again."""
        self._deaths.setdefault(place, []).append(how)
        if len(self._deaths[place]) >= self._tries:
            return False
        self._running.discard(place)
        self._waiting.append(place)
        return True

    def _alone(self, place: int) -> bool:
        died = len(self._deaths.get(place, ()))
        return 0 < died == self._tries - 1

    def _fits(self, place: int) -> bool:
        if self._limit is None or not self._memory:
            return True
        return sum(self._memory[one] for one in (*self._running, place)) <= self._limit
