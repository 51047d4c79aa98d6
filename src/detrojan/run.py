"""The surroundings of a call: device, randomness, progress, and where to continue from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from detrojan.errors import DetrojanError
from detrojan.machine import device_named
from detrojan.store import Store

T = TypeVar("T")
R = TypeVar("R")


class Task(Protocol):
    """One piece of work whose advance is shown to a person."""

    def advance(self, amount: float = 1, *, note: str | None = None) -> None:
        """Report `amount` more units done, with an optional short note."""


class Progress(Protocol):
    """Shows progress; the library never prints by itself."""

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        """Open a piece of work of `total` units (None: unknown)."""


class _SilentTask:
    def advance(self, amount: float = 1, *, note: str | None = None) -> None:
        pass


class SilentProgress:
    """Shows nothing: the default in library use."""

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Task]:
        """Open a piece of work that nobody watches."""
        yield _SilentTask()


class Runner(Protocol):
    """Does the parts of a piece of work, wherever it likes."""

    def map(
        self, job: Callable[[Run, T], R], items: Sequence[T], *, run: Run, title: str = ""
    ) -> Iterator[R]:
        """Yield what `job` returns for each item, in their order, as `Run.map` says."""


class InTurn:
    """Does one part after the other in this process: the default."""

    def map(
        self, job: Callable[[Run, T], R], items: Sequence[T], *, run: Run, title: str = ""
    ) -> Iterator[R]:
        """Yield what `job` returns for each item; each shows its own progress, so the title is not needed."""
        for item in items:
            try:
                yield job(run, item)
            except DetrojanError as error:
                name(error, item, items)
                raise


def name(error: DetrojanError, item: object, items: Sequence[object]) -> None:
    """Put the item for which an error was raised before its text, where there are several."""
    if len(items) > 1:
        error.args = (f"{item}: {error}",)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What surrounds one call: seed, device, progress, the checkpoint folder, and who does its parts.

    Randomness comes from named streams: `run.generator("invert", 3)` is the same stream whenever
    and wherever it is asked for, so results do not depend on the order of the work.

    Args:
        seed: any integer; equal seeds give equal results on the same machine.
        device: a torch device name; "auto" becomes the best one here: cuda, else mps, else cpu.
        progress: who shows the progress; silent by default.
        checkpoint: a folder in which long work keeps its state, or None to keep nothing.
        mixed_precision: trainings multiply in bfloat16; faster on an accelerator, weights stay float32.
        float32: searches for triggers compute in float32 also where the device is made for bfloat16.
        runner: who does the parts of `map`; by default they are done in turn, in this process.

    """

    seed: int = 0
    device: str = "auto"
    progress: Progress = field(default_factory=SilentProgress, repr=False, compare=False)
    checkpoint: Path | None = None
    mixed_precision: bool = False
    float32: bool = False
    runner: Runner = field(default_factory=InTurn, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Settle the device."""
        object.__setattr__(self, "device", device_named(self.device))

    def map(self, job: Callable[[Run, T], R], items: Sequence[T], *, title: str = "") -> Iterator[R]:
        """Yield what `job` returns for each item, in the order of the items.

        What is computed does not depend on the runner. The parts may run at the same time, elsewhere.

        Args:
            job: called with a run and one item. It is a function of a module, or a `functools.partial` of
                one, and all that goes in and out can be pickled. The run has this one's seed and
                checkpoint, and the progress of the place where the part is done.
            items: the parts; their texts name them in errors.
            title: what the progress shows where the parts run at the same time.

        Raises:
            DetrojanError: the first that a part raised, of its own type, the item before its text.

        """
        return self.runner.map(job, items, run=self, title=title)

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a fresh CPU generator for the stream called `names`."""
        return torch.Generator().manual_seed(self.derived_seed(*names))

    def derived_seed(self, *names: str | int) -> int:
        """Return the 63-bit seed of the stream called `names`."""
        text = "/".join(str(part) for part in (self.seed, *names))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def within(self, *names: str | int) -> Run:
        """Return a run whose streams are independent of this one's, for a part called `names`."""
        return replace(self, seed=self.derived_seed(*names))

    def store(self, name: str, fingerprint: dict[str, Any]) -> Store:
        """Return the store in which the work called `name` keeps its state between runs.

        `fingerprint` is everything the result depends on; a state that was written under another
        fingerprint is never picked up.
        """
        folder = None if self.checkpoint is None else Path(self.checkpoint)
        return Store(folder, name, {"seed": self.seed, **fingerprint})
