"""The labels that an inversion has under way, side by side: all their state is in a few tensors."""

from __future__ import annotations

import math

import torch

from detrojan.store import Tensors

#: keeps the arctanh of 0 and 1 finite, as in the reference
EPSILON = 1e-7


class Slots:
    """The labels under way: L places, each with the state of one label's optimisation.

    All pixel arrays are (L, H, W, 1 + C): channel 0 is the mask, the rest the pattern; memory in
    the order the convolutions like best.
    """

    #: per-slot numbers of the schedule, all float64 so that one row holds them
    NUMBERS = (
        "label",
        "step",
        "cost",
        "set_counter",
        "up_counter",
        "down_counter",
        "went_up",
        "went_down",
        "stale",
        "best_l1",
        "best_success",
        "stale_l1",
        "last_success",
        "active",
    )

    def __init__(self, count: int, height: int, width: int, channels: int) -> None:
        shape = (count, height, width, 1 + channels)
        self.raw = torch.zeros(shape)
        self.first = torch.zeros(shape)
        self.second = torch.zeros(shape)
        self.best = torch.zeros(shape)
        self.numbers = torch.zeros(count, len(self.NUMBERS), dtype=torch.float64)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.numbers[:, self.NUMBERS.index(name)]

    def __setitem__(self, name: str, value: torch.Tensor | float) -> None:
        self.numbers[:, self.NUMBERS.index(name)] = value

    @property
    def values(self) -> torch.Tensor:
        """Mask and pattern in (0, 1)."""
        return self.raw.tanh() / (2 - EPSILON) + 0.5

    def occupy(self, place: int, label: int, generator: torch.Generator) -> None:
        """Begin a label in a place: random mask and pattern, everything else reset."""
        start = torch.rand(self.raw.shape[1:], generator=generator)
        self.raw[place] = torch.atanh((start - 0.5) * (2 - EPSILON))
        for state in (self.first, self.second, self.best):
            state[place] = 0
        self.numbers[place] = 0
        row = dict.fromkeys(self.NUMBERS, 0.0)
        row |= {"label": label, "active": 1, "best_l1": math.inf, "stale_l1": math.inf}
        self.numbers[place] = torch.tensor([row[name] for name in self.NUMBERS], dtype=torch.float64)

    def tensors(self) -> Tensors:
        """Return the whole state."""
        names = ("raw", "first", "second", "best", "numbers")
        return {f"slot.{name}": getattr(self, name) for name in names}

    def restore(self, tensors: Tensors) -> None:
        """Take over a state from `tensors`."""
        for name in ("raw", "first", "second", "best", "numbers"):
            setattr(self, name, tensors[f"slot.{name}"].clone())

    def keep(self, places: list[int]) -> None:
        """Forget every place but these."""
        for name in ("raw", "first", "second", "best", "numbers"):
            setattr(self, name, getattr(self, name)[places].clone())
