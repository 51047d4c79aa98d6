"""Does the parts of a piece of work one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

from detrojan.errors import DetrojanError, InterruptedRunError, OptionError
from detrojan.run import InTurn, Run
from detrojan.runner.base import Engine, Outcome, rebuilt, told

T = TypeVar("T")


@dataclass(frozen=True)
class Here(Engine):
    """Does one part after the other in this process, with all of its computing threads."""

    name: ClassVar[str] = "here"

    @classmethod
    def made(cls, workers: int | None, address: str | None) -> Self:
        """Return the engine.

        Raises:
            OptionError: several workers, or an address.

        """
        if workers not in {None, 1} or address is not None:
            got = f"{workers} workers" if address is None else f"the address {address}"
            raise OptionError(f"expected one worker and no address for the engine here, got {got}")
        return cls()

    def outcomes(
        self,
        job: Callable[[Run, T], Any],
        items: Sequence[T],
        *,
        run: Run,
        title: str = "",
        memory: Sequence[int] = (),
    ) -> Iterator[Outcome]:
        """Yield what becomes of each item, in their order."""
        inner = replace(run, runner=InTurn())
        with run.progress.task(title or "parts", len(items)) as task:
            for place, item in enumerate(items):
                task.advance(0, note=str(item))
                try:
                    outcome = Outcome(place=place, value=job(inner, item))
                except InterruptedRunError:
                    raise
                except DetrojanError as error:
                    outcome = Outcome(place=place, error=error)
                except Exception as error:  # noqa: BLE001 - it is the item's own
                    outcome = Outcome(place=place, error=rebuilt(*told(error), item))
                task.advance(1, note="")
                yield outcome
