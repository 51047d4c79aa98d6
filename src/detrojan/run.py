"""The surroundings of a call: device, randomness, progress, and where to continue from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from detrojan.store import Store


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


@dataclass(frozen=True, kw_only=True)
class Run:
    """What surrounds one call: seed, device, progress and the checkpoint folder.

    Randomness comes from named streams: `run.generator("invert", 3)` is the same stream whenever
    and wherever it is asked for, so results do not depend on the order of the work.

    Args:
        seed: any integer; equal seeds give equal results on the same machine.
        device: a torch device name.
        progress: who shows the progress; silent by default.
        checkpoint: a folder in which long work keeps its state, or None to keep nothing.
        mixed_precision: trainings multiply in bfloat16; faster on an accelerator, weights stay float32.
        float32: searches for triggers compute in float32 also where the device is made for bfloat16.

    """

    seed: int = 0
    device: str = "cpu"
    progress: Progress = field(default_factory=SilentProgress, repr=False, compare=False)
    checkpoint: Path | None = None
    mixed_precision: bool = False
    float32: bool = False

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
